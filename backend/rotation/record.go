package rotation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Outcome is how an operation ended.
type Outcome string

// The outcomes.
const (
	// OutcomeCompleted: every value is proven and committed.
	OutcomeCompleted Outcome = "completed"
	// OutcomeRolledBack: a target had been changed and was put back.
	OutcomeRolledBack Outcome = "rolled_back"
	// OutcomeFailed: nothing was changed, or a secret is unresolved; the results and
	// issues say which.
	OutcomeFailed Outcome = "failed"
	// OutcomeInProgress: not ended yet. It is never recorded.
	OutcomeInProgress Outcome = "in_progress"
)

// Record is what history keeps of one operation. It holds no secret material.
type Record struct {
	Operation
	Role        string  `json:"role"`
	Environment string  `json:"environment,omitempty"`
	Outcome     Outcome `json:"outcome"`
	// DurationMS is the time from start to commit, in milliseconds.
	DurationMS int64 `json:"duration_ms"`
	// Version of the role after the operation.
	Version int            `json:"version"`
	Results []SecretResult `json:"results"`
	// Issues are the things a person should know: causes of failure, findings of
	// a recovery, overlaps that ended early.
	Issues       []string  `json:"issues,omitempty"`
	NextRotation time.Time `json:"next_rotation,omitzero"`
	// Changes are the fields that have other values since, where the operation was to
	// change them.
	Changes []Difference `json:"changes,omitempty"`
	// Pruned is what was dropped from the history, nil unless that was the operation.
	Pruned *Pruned `json:"pruned,omitempty"`
	// Note is what a person has added to an earlier record, nil unless this is of KindNote.
	Note *Note `json:"note,omitempty"`
}

// Open reports whether tasks were to follow the operation.
func (r Record) Open() bool { return len((&PostCommit{Tasks: r.Tasks}).open()) > 0 }

// Difference is a field of a configuration that was changed. From and To are values
// as they are read, without secrets; nil where there was or is none, or where the
// value is not for everybody.
type Difference struct {
	Field string `json:"field"`
	From  any    `json:"from"`
	To    any    `json:"to"`
}

// Differences lists the fields whose values differ, in order.
func Differences(before, after map[string]any) []Difference {
	var found []Difference
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if !reflect.DeepEqual(before[name], after[name]) {
			found = append(found, Difference{Field: name, From: before[name], To: after[name]})
		}
	}
	return found
}

// SecretResult is what an operation did to one secret.
type SecretResult struct {
	Secret string `json:"secret"`
	Type   string `json:"type"`
	// From and To are the versions of the current value before and after; zero
	// when there was or is none.
	From  int    `json:"from_version"`
	To    int    `json:"to_version"`
	Steps []Step `json:"steps"`
	// Unresolved says that the operation left the secret unresolved. Records of earlier
	// versions say it among their issues only.
	Unresolved bool `json:"unresolved,omitempty"`
	// NeededBy names who still needed the previous value when it was retired, as the
	// engine saw it.
	NeededBy []string `json:"needed_by,omitempty"`
	// Forced says that a person had them cut off.
	Forced bool `json:"forced,omitempty"`
}

// Versions says for people which value was current before and after the operation.
func (r SecretResult) Versions() string {
	switch {
	case r.To == 0:
		return "no value"
	case r.From == r.To:
		return fmt.Sprintf("version %d kept", r.To)
	case r.From == 0:
		return fmt.Sprintf("version %d", r.To)
	}
	return fmt.Sprintf("version %d → %d", r.From, r.To)
}

// LeftUnresolved lists the secrets that the operation itself left unresolved.
func (r Record) LeftUnresolved() []string {
	var names []string
	for _, result := range r.Results {
		if result.Unresolved {
			names = append(names, result.Secret)
		}
	}
	return names
}

// Step is one step of an operation on one secret.
type Step struct {
	// Name is create, set, test, undo, probe, look, retire or terminate.
	Name       string `json:"name"`
	DurationMS int64  `json:"duration_ms"`
	OK         bool   `json:"ok"`
	// Detail is the cause of a failure.
	Detail string `json:"detail,omitempty"`
	// Unproven says why what was to be proven was not.
	Unproven string `json:"unproven,omitempty"`
}

// Entry is one link of the history chain. Hash covers the previous hash and the
// exact bytes of the record, so no entry can be changed, dropped or reordered
// without the head in the role's state disagreeing.
type Entry struct {
	Sequence     int             `json:"sequence"`
	PreviousHash string          `json:"previous_hash"`
	Record       json.RawMessage `json:"record"`
	Hash         string          `json:"hash"`
}

// History is the head of the chain, and where it begins when old entries were
// dropped by the retention limit.
type History struct {
	// Count is the sequence number of the newest entry.
	Count int    `json:"count"`
	Head  string `json:"head,omitempty"`
	// Base is the sequence number of the newest dropped entry, BaseHash its hash.
	Base     int    `json:"base,omitempty"`
	BaseHash string `json:"base_hash,omitempty"`
	// Notes is how many of the entries that are kept are notes of people. It leaves out
	// those that were written before notes were counted.
	Notes int `json:"notes,omitempty"`
}

// operations is how many of the entries that are kept are no notes.
func (h History) operations() int { return h.Count - h.Base - h.Notes }

// append adds a record to the chain and to the outbox.
func (s *State) append(r Record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	e := Entry{Sequence: s.History.Count + 1, PreviousHash: s.History.Head, Record: raw}
	e.Hash = e.sum()
	s.History.Count, s.History.Head = e.Sequence, e.Hash
	if r.Kind == KindNote {
		s.History.Notes++
	}
	s.Outbox = append(s.Outbox, e)
	return nil
}

// sum is the SHA-256 of the previous hash, a newline, and the record, in hex.
func (e Entry) sum() string {
	h := sha256.New()
	h.Write([]byte(e.PreviousHash + "\n"))
	h.Write(e.Record)
	return hex.EncodeToString(h.Sum(nil))
}

// Latest returns the newest record of an operation, nil when there is none. What people
// have written since is not one.
func (s *State) Latest() *Record {
	for _, e := range slices.Backward(s.Outbox) {
		if r, err := e.Decode(); err == nil && !r.Kind.beside() {
			return &r
		}
	}
	return nil
}

// answer returns the newest record of an operation of that request, or of any when it
// is empty, and its sequence number, zero when the outbox has none.
func (s *State) answer(requestID string) (*Record, int) {
	field := `"request_id":`
	if requestID != "" {
		field += strconv.Quote(requestID) // Vault's ids are the same in JSON
	}
	for _, e := range slices.Backward(s.Outbox) {
		if !bytes.Contains(e.Record, []byte(field)) {
			continue // most records are of no request, and decoding takes long
		}
		r, err := e.Decode()
		if err == nil && r.RequestID != "" && !r.Kind.beside() && (requestID == "" || r.RequestID == requestID) {
			return &r, e.Sequence
		}
	}
	return nil, 0
}

// beside reports whether the record in the entry is of such a kind, without decoding it.
func (e Entry) beside() bool {
	return bytes.Contains(e.Record, []byte(`"kind":"configure"`)) || bytes.Contains(e.Record, []byte(`"kind":"note"`))
}

// Decode returns the record in the entry.
func (e Entry) Decode() (Record, error) {
	var r Record
	if err := json.Unmarshal(e.Record, &r); err != nil {
		return Record{}, fmt.Errorf("decode history entry %d: %w", e.Sequence, err)
	}
	return r, nil
}

// VerifyChain checks that entries are all of the history h, in order, each with
// a right hash and linked to the one before, and that what was dropped before them
// is what they say. The error says what is wrong first.
func (h History) VerifyChain(entries []Entry) error {
	if err := h.VerifyLinks(entries); err != nil {
		return err
	}
	return h.verifyPruned(entries)
}

// VerifyLinks is VerifyChain without a look at what the entries say.
func (h History) VerifyLinks(entries []Entry) error {
	hash, sequence := h.BaseHash, h.Base
	for _, e := range entries {
		switch {
		case e.Sequence != sequence+1:
			return fmt.Errorf("entry %d is missing", sequence+1)
		case e.sum() != e.Hash:
			return fmt.Errorf("entry %d was changed", e.Sequence)
		case e.PreviousHash != hash && sequence == 0:
			return fmt.Errorf("entry %d was changed: it follows a hash, and no entry is before it", e.Sequence)
		case e.PreviousHash != hash:
			return fmt.Errorf("entry %d or the link to it was changed: entry %d follows another hash", sequence, e.Sequence)
		}
		hash, sequence = e.Hash, e.Sequence
	}
	if sequence != h.Count {
		return fmt.Errorf("entry %d is missing", sequence+1)
	}
	if hash != h.Head {
		return fmt.Errorf("entry %d is not the one the role's state names", sequence)
	}
	return nil
}
