package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// chain is a history as it is read, entry by entry.
type chain struct {
	// first is the sequence number of the first entry, base the hash of the one
	// before it.
	first int
	base  string
	last  rotation.Entry
	// hashes are those of the entries, by sequence number.
	hashes map[int]string
}

// add checks that an entry is whole and follows the one before. The first may be
// any: older ones may have been dropped by history_retention.
func (c *chain) add(e rotation.Entry) error {
	if c.first == 0 {
		c.hashes = map[int]string{}
		c.first, c.last.Sequence = e.Sequence, e.Sequence-1
		if e.Sequence > 1 {
			c.base, c.last.Hash = e.PreviousHash, e.PreviousHash
		}
	}
	link := rotation.History{Base: c.last.Sequence, BaseHash: c.last.Hash, Count: e.Sequence, Head: e.Hash}
	if err := link.VerifyLinks([]rotation.Entry{e}); err != nil {
		return err
	}
	c.last, c.hashes[e.Sequence] = e, e.Hash
	return nil
}

// pruned checks that what an entry says was dropped is what was there: an export may
// have the entries from before that, or begin right behind them.
func (c *chain) pruned(e rotation.Entry, p *rotation.Pruned) error {
	known := c.hashes[p.Last]
	if p.Last == c.first-1 {
		known = c.base
	}
	if p.Last >= c.first-1 && known != p.HeadHash {
		return fmt.Errorf("entry %d says that entries up to %d were dropped, and that is not the hash of the last", e.Sequence, p.Last)
	}
	return nil
}

// parseLine reads one line of an export. What it says in fields must be what its
// canonical text says, which is what the hash covers.
func parseLine(line []byte) (rotation.Entry, rotation.Record, error) {
	var link struct {
		Sequence     int    `json:"sequence"`
		PreviousHash string `json:"previous_hash"`
		Hash         string `json:"hash"`
		Canonical    string `json:"canonical"`
	}
	var said, canonical map[string]any
	if err := errors.Join(json.Unmarshal(line, &link), json.Unmarshal(line, &said)); err != nil {
		return rotation.Entry{}, rotation.Record{}, fmt.Errorf("decode line: %w", err)
	}
	e := rotation.Entry{Sequence: link.Sequence, PreviousHash: link.PreviousHash, Hash: link.Hash, Record: json.RawMessage(link.Canonical)}
	rec, err := e.Decode()
	if err != nil {
		return e, rec, err
	}
	if err := json.Unmarshal(e.Record, &canonical); err != nil {
		return e, rec, fmt.Errorf("decode record: %w", err)
	}
	canonical["rotation_id"], canonical["vault_request_id"] = rec.ID, rec.RequestID
	for _, name := range []string{"id", "request_id"} {
		delete(canonical, name)
	}
	for _, name := range []string{"sequence", "previous_hash", "hash", "canonical"} {
		delete(said, name)
	}
	if !reflect.DeepEqual(said, canonical) {
		return e, rec, fmt.Errorf("entry %d does not say what its canonical text says", e.Sequence)
	}
	return e, rec, nil
}

// scan calls found for each line of an export.
func scan(export io.Reader, found func(rotation.Entry, rotation.Record) error) error {
	lines := bufio.NewReader(export)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read line %d: %w", number, err)
		}
		if len(line) == 0 {
			return nil
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue // the vault command ends a raw answer with one
		}
		e, rec, wrong := parseLine(line)
		if wrong == nil {
			wrong = found(e, rec)
		}
		if wrong != nil {
			return fmt.Errorf("line %d: %w", number, wrong)
		}
	}
}

// verifyFile checks an exported history, and says up to where it is whole.
func verifyFile(path string, out io.Writer) error {
	file, err := os.Open(path) //nolint:gosec // the user's own
	if err != nil {
		return fmt.Errorf("open export: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	var c chain
	name, drops := "", []string{}
	err = scan(file, func(e rotation.Entry, rec rotation.Record) error {
		if c.first > 0 && rec.Role != name {
			return fmt.Errorf("entry %d is of %s, and those before are of %s; export each history to a file of its own", e.Sequence, rec.Role, name)
		}
		name = rec.Role
		if err := c.add(e); err != nil || rec.Pruned == nil {
			return err
		}
		drops = append(drops, fmt.Sprintf("entry %d: %s", e.Sequence, rec.Pruned))
		return c.pruned(e, rec.Pruned)
	})
	switch {
	case err != nil:
		return fmt.Errorf("verify %s: %w", path, err)
	case c.first == 0:
		return fmt.Errorf("verify %s: there is no entry in it", path)
	}
	_, err = fmt.Fprintf(out, "%s: entries %d to %d are whole, each follows the one before.\nhead_hash %s\n", name, c.first, c.last.Sequence, c.last.Hash)
	if err == nil && c.base != "" {
		_, err = fmt.Fprintf(out, "base_hash %s: older entries are not in the export\n", c.base)
	}
	for _, drop := range drops {
		if err == nil {
			_, err = fmt.Fprintln(out, drop)
		}
	}
	return err
}
