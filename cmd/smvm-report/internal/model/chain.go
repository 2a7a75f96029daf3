package model

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// hash is what the hash of an entry looks like.
var hash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// IsHash tells whether a text looks like the hash of an entry.
func IsHash(text string) bool { return hash.MatchString(text) }

// Chain is a history as it is read, entry by entry.
type Chain struct {
	// First is the sequence number of the first entry, Base the hash of the one
	// before it.
	First int
	Base  string
	Last  rotation.Entry
	// hashes are those of the entries, by sequence number.
	hashes map[int]string
	// prune is the sequence number of the newest entry of kind prune, zero if there is
	// none, and dropped that of the last entry that it says was dropped.
	prune, dropped int
	// begins says that an entry of kind prune tells of all that is missing before First.
	begins bool
}

// Add checks that an entry is whole and follows the one before, and that what it
// says was dropped is what was there. The first may be any: whether what is missing
// before it was dropped by history_retention is known at the end, see Begins.
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

// Begins checks that the history begins with entry 1, or with the entry after those
// that an entry of kind prune says were dropped. It is asked after the last Add: the
// entry of kind prune is newer than what was dropped.
func (c *Chain) Begins() error {
	switch {
	case c.First <= 1 || c.begins:
		return nil
	case c.prune > 0 && c.dropped < c.First-1:
		return fmt.Errorf("%s missing at the beginning: the newest entry of kind prune, entry %d, says that only entries up to %d were dropped", entriesAre(c.dropped+1, c.First-1), c.prune, c.dropped)
	}
	return fmt.Errorf("%s missing at the beginning, and no entry of kind prune says that the engine dropped exactly these", entriesAre(1, c.First-1))
}

func entriesAre(first, last int) string {
	if first == last {
		return fmt.Sprintf("entry %d is", first)
	}
	return fmt.Sprintf("entries %d to %d are", first, last)
}

// With returns the sequence number of the entry with that hash, zero if none has it.
func (c *Chain) With(hash string) int {
	for sequence, known := range c.hashes {
		if known == hash {
			return sequence
		}
	}
	return 0
}

// pruned checks that what an entry says was dropped is what was there: an export may
// have the entries from before that, or begin right behind them.
func (c *Chain) pruned(e rotation.Entry, p *rotation.Pruned) error {
	if !IsHash(p.HeadHash) {
		return fmt.Errorf("entry %d says that entries up to %d were dropped, but gives %.100q as the hash of the last one, which is no hash", e.Sequence, p.Last, p.HeadHash)
	}
	c.prune, c.dropped = e.Sequence, p.Last
	known := c.hashes[p.Last]
	if p.Last == c.First-1 {
		known, c.begins = c.Base, true
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
	if err := cmp.Or(json.Unmarshal(line, &link), json.Unmarshal(line, &said), unambiguous(line), unambiguous([]byte(link.Canonical))); err != nil {
		return rotation.Entry{}, rotation.Record{}, fmt.Errorf("decode line: %w", err)
	}
	e := rotation.Entry{Sequence: link.Sequence, PreviousHash: link.PreviousHash, Hash: link.Hash, Record: json.RawMessage(link.Canonical)}
	rec, err := e.Decode()
	if wrong, ok := errors.AsType[*time.ParseError](err); ok {
		err = fmt.Errorf("decode history entry %d: %.100q is no time", e.Sequence, wrong.Value) // which it quotes, but not whole
	}
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

// unambiguous checks that no object in a JSON text has a field twice: programs differ in
// which of the two they show.
func unambiguous(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	for {
		switch token, err := decoder.Token(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read fields: %w", err)
		case token == json.Delim('{'):
			if err := distinct(decoder); err != nil {
				return err
			}
		}
	}
}

// distinct reads the rest of an object, of which the brace was read.
func distinct(decoder *json.Decoder) error {
	seen := map[json.Token]bool{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return fmt.Errorf("read field: %w", err)
		}
		if seen[name] {
			return fmt.Errorf("it has the field %.100q twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return fmt.Errorf("read field %.100q: %w", name, err)
		}
		if err := unambiguous(value); err != nil {
			return err
		}
	}
	_, err := decoder.Token()
	if err != nil {
		return fmt.Errorf("read the end of an object: %w", err)
	}
	return nil
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
