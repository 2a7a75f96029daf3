package destination

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// kvEntry is what a KV engine has under one name.
type kvEntry struct {
	exists bool
	// custom is its custom_metadata.
	custom map[string]string
	// version is the latest, data what it has, nil if it was deleted or destroyed. It
	// is JSON as it was answered, because numbers of others may fit no type of Go.
	version int
	data    map[string]json.RawMessage
}

// The keys of data, and the one of custom_metadata.
const (
	valueKey   = "value"
	versionKey = "version"
	rotatedKey = "rotated"
	ownerKey   = "smvm-owner"
)

// text is what it has under a key, if that is a text.
func (e kvEntry) text(key string) (text string, ok bool) {
	var found *string
	if json.Unmarshal(e.data[key], &found) != nil || found == nil {
		return "", false
	}
	return *found, true
}

// same reports whether it has the value of an item.
func (e kvEntry) same(item Item) bool {
	value, ok := e.text(valueKey)
	return ok && value == item.Value
}

// holds reports whether it is exactly this item, which nobody else could have
// written.
func (e kvEntry) holds(c Copy, item Item) bool {
	for key, want := range kvData(c, item) {
		if have, ok := e.text(key); !ok || have != want {
			return false
		}
	}
	return true
}

func kvData(c Copy, item Item) map[string]string {
	return map[string]string{
		valueKey: item.Value, versionKey: fmt.Sprint(c.Stamp.Version), rotatedKey: c.Stamp.Time.UTC().Format(time.RFC3339),
	}
}

func (e kvEntry) foreign(c Copy) bool {
	return e.exists && e.custom[ownerKey] != c.Owner && !c.Adopt
}

func (e kvEntry) stamp() Stamp {
	version, _ := e.text(versionKey)
	rotated, _ := e.text(rotatedKey)
	at, err := time.Parse(time.RFC3339, rotated)
	if err != nil {
		return Stamp{}
	}
	return parseStamp(fmt.Sprintf("%s-%d", version, at.Unix()))
}

func (e kvEntry) difference(c Copy, item Item) string {
	switch {
	case !e.exists || e.version == 0:
		return "is missing"
	case e.custom[ownerKey] != c.Owner:
		return "is not this engine's"
	case e.data == nil:
		return "was deleted"
	case !e.same(item):
		return "has another value"
	}
	return ""
}

// publishAttempts is how often a write is tried that somebody else's has beaten.
const publishAttempts = 3

// publish makes the engine hold one item.
func (s *kvSession) publish(ctx context.Context, c Copy, item Item) error {
	for range publishAttempts {
		e, err := s.read(ctx, item.Name)
		if err != nil {
			return err
		}
		switch ours := e.custom[ownerKey] == c.Owner; {
		case ours && e.same(item):
			return nil
		case e.holds(c, item):
			return s.claim(ctx, item.Name, e, c.Owner) // a crash came between the two writes
		case e.foreign(c):
			return foreign()
		case ours && c.Stamp.older(e.stamp()):
			return superseded(e.stamp())
		}
		if err := s.write(ctx, c, item, e); !errors.Is(err, errContended) {
			return err
		}
	}
	return errContended
}

// write puts one item in place of what was read, and reads it back. Keys that
// others have added stay.
func (s *kvSession) write(ctx context.Context, c Copy, item Item, e kvEntry) error {
	data := map[string]any{}
	for key, theirs := range e.data {
		data[key] = theirs
	}
	for key, ours := range kvData(c, item) {
		data[key] = ours
	}
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false) // what others keep there stays as they wrote it
	if encoder.Encode(map[string]any{"data": data, "options": map[string]any{"cas": e.version}}) != nil {
		return errors.New("the request cannot be encoded")
	}
	_, err := s.client.Logical().WriteBytesWithContext(ctx, s.path("data", item.Name), raw.Bytes())
	if answeredWith(err, http.StatusBadRequest, "check-and-set") {
		return errContended
	}
	if err := s.explain(err, "Vault"); err != nil {
		return err
	}
	if e.custom[ownerKey] != c.Owner {
		if err := s.claim(ctx, item.Name, e, c.Owner); err != nil {
			return err
		}
	}
	now, err := s.read(ctx, item.Name)
	if err == nil && !now.same(item) {
		err = errLying
	}
	return err
}

// claim marks an entry as this engine's own.
func (s *kvSession) claim(ctx context.Context, name string, e kvEntry, owner string) error {
	custom := map[string]string{}
	maps.Copy(custom, e.custom)
	custom[ownerKey] = owner
	_, err := s.client.Logical().WriteWithContext(ctx, s.path("metadata", name), map[string]any{"custom_metadata": custom})
	return s.explain(err, "Vault")
}

// probe tries whether a name may be published under.
func (s *kvSession) probe(ctx context.Context, c Copy, name string) error {
	if err := s.allowed(ctx, name); err != nil {
		return err
	}
	e, err := s.read(ctx, name)
	if err == nil && e.foreign(c) {
		return foreign()
	}
	return err
}
