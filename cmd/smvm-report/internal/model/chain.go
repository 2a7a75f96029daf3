package model

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Chain is a history as it is read, entry by entry.
type Chain struct {
	// First is the sequence number of the first entry, Base the hash of the one
	// before it.
	First int
	Base  string
	Last  rotation.Entry
	// hashes are those of the entries, by sequence number.
	hashes map[int]string
}

// Add checks that an entry is whole and follows the one before, and that what it
// says was dropped is what was there. The first may be any: older ones may have
// been dropped by history_retention.
func (c *Chain) Add(e rotation.Entry, rec rotation.Record) error {
	if c.First == 0 {
		c.hashes = map[int]string{}
		c.First, c.Last.Sequence = e.Sequence, e.Sequence-1
		if e.Sequence > 1 {
			c.Base, c.Last.Hash = e.PreviousHash, e.PreviousHash
		}
	}
	link := rotation.History{Base: c.Last.Sequence, BaseHash: c.Last.Hash, Count: e.Sequence, Head: e.Hash}
	c.Last, c.hashes[e.Sequence] = e, e.Hash
	if err := link.VerifyLinks([]rotation.Entry{e}); err != nil || rec.Pruned == nil {
		return err
	}
	return c.pruned(e, rec.Pruned)
}

// Has reports whether an entry has that hash.
func (c *Chain) Has(hash string) bool {
	return slices.Contains(slices.Collect(maps.Values(c.hashes)), hash)
}

// pruned checks that what an entry says was dropped is what was there: an export may
// have the entries from before that, or begin right behind them.
func (c *Chain) pruned(e rotation.Entry, p *rotation.Pruned) error {
	known := c.hashes[p.Last]
	if p.Last == c.First-1 {
		known = c.Base
	}
	if p.Last >= c.First-1 && known != p.HeadHash {
		return fmt.Errorf("entry %d says that entries up to %d were dropped, but the hash of the last one does not match", e.Sequence, p.Last)
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
		return e, rec, fmt.Errorf("the fields of entry %d differ from its canonical text", e.Sequence)
	}
	return e, rec, nil
}

// Scan calls found for each line of an export.
func Scan(export io.Reader, found func(rotation.Entry, rotation.Record) error) error {
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
