package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// account is what Vault calls the service account smvm-api of the namespace orders.
const account = "kubernetes-orders-smvm-api"

// audit counts what that account has been answered, by the path of the request.
type audit struct {
	path   string
	offset int64
	counts map[string]int
}

// count reads what was added to the log since the last time, and returns how many
// requests of a path the account has made so far.
func (a *audit) count(path string) (int, error) {
	log, err := os.Open(a.path)
	if err != nil {
		return 0, fmt.Errorf("open audit log: %w", err)
	}
	defer log.Close() //nolint:errcheck // it is only read
	added, err := io.ReadAll(io.NewSectionReader(log, a.offset, 1<<40))
	if err != nil {
		return 0, fmt.Errorf("read audit log: %w", err)
	}
	added = added[:bytes.LastIndexByte(added, '\n')+1] // the rest of a line is for the next time
	a.offset += int64(len(added))
	for line := range bytes.Lines(added) {
		if err := a.take(line); err != nil {
			return 0, err
		}
	}
	return a.counts[path], nil
}

// take takes in one line.
func (a *audit) take(line []byte) error {
	var entry struct {
		Type string
		Auth struct {
			DisplayName string `json:"display_name"`
		}
		Request struct{ Path string }
	}
	if err := json.Unmarshal(line, &entry); err != nil {
		return errors.New("read audit log: a line is not JSON")
	}
	if entry.Type == "response" && entry.Auth.DisplayName == account {
		if a.counts == nil {
			a.counts = map[string]int{}
		}
		a.counts[entry.Request.Path]++
	}
	return nil
}
