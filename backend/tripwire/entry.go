package tripwire

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// entry is what is stored of the retired values of a role. One in memory is never changed.
type entry struct {
	// Uses counts the uses that were noted, also of values that are not kept any more.
	Uses int `json:"uses,omitempty"`
	// Values begin with the one that was retired first.
	Values []value `json:"values"`
}

// value is what is kept of a retired value.
type value struct {
	Secret  string    `json:"secret"`
	Type    string    `json:"type"`
	Version int       `json:"version"`
	Retired time.Time `json:"retired"`
	// Digests are those of secret.Values.
	Digests []secret.Digest `json:"sha256"`
	// KeyID is the id by which tokens name the key; empty if it was none.
	KeyID string `json:"kid,omitempty"`
	// Use is the latest use that was noted.
	Use *Use `json:"use,omitempty"`
}

// Use is that somebody had a retired value verified.
type Use struct {
	// Number is one for the first use of a role that was noted.
	Number int       `json:"number"`
	At     time.Time `json:"at"`
	// Actor and Address are of who asked to verify the value, not of who presented it
	// there.
	Actor   rotation.Actor `json:"actor,omitzero"`
	Address string         `json:"address,omitempty"`
}

// mark is by what a value that is presented is recognized: its digest, or the id of a key.
type mark struct {
	secret string
	digest secret.Digest
	keyID  string
}

// kept is what is known of the retired values of one role.
type kept struct {
	// key is that of the entry in storage.
	key string
	// mu is held while the entry is read and written. Whoever verifies waits for it only
	// where the entry was not read yet.
	mu sync.Mutex
	// failed is when the entry could not be read.
	failed time.Time

	known sync.RWMutex // guards what follows
	// entry is nil until it was read; places says where in it a mark is.
	entry  *entry
	places map[mark]int
	// noted are the uses that are not stored yet, by the digest of the value itself.
	noted map[mark]Use
	// unproven is when the latest use was noted of a key that a token only names.
	unproven time.Time
}

// identity is the mark that no other value of the role has.
func (v value) identity() mark { return mark{secret: v.Secret, digest: v.Digests[0]} }

// unproven reports whether the value is a key of which only tokens are presented: that one
// names the key does not prove that the key signed it.
func (v value) unproven() bool { return v.KeyID != "" }

// add adds a value, as the one that was retired last. One that is there already was held
// since, or was about to be given up before, which was not stored.
func (e *entry) add(v value) {
	e.Values = slices.DeleteFunc(e.Values, func(known value) bool {
		same := known.identity() == v.identity()
		if same {
			v.Use = known.Use
		}
		return same
	})
	e.Values = append(e.Values, v)
}

// expire drops what was retired too long ago, or is too much.
func (e *entry) expire(now time.Time, retention time.Duration) {
	e.Values = slices.DeleteFunc(e.Values, func(v value) bool { return v.expired(now, retention) })
	e.Values = slices.Delete(e.Values, 0, max(0, len(e.Values)-MaxValues))
	e.bound()
}

const (
	// maxBytes bounds an entry. The smallest limit of a storage backend of Vault is
	// 512 KiB, and without room for its entry a role could give up no value any more.
	maxBytes = 256 << 10
	// fullUses is how many uses, the latest, keep who asked as long as there are values
	// to drop: events still have to tell of them.
	fullUses = 10
)

// bound drops what is too long for storage: first who had values verified, and from where,
// the longest ago first; then values, the longest retired first.
func (e *entry) bound() {
	excess := length(e) - maxBytes
	if excess <= 0 {
		return
	}
	var used []*value
	for i := range e.Values {
		if e.Values[i].Use != nil {
			used = append(used, &e.Values[i])
		}
	}
	slices.SortFunc(used, func(x, y *value) int { return x.Use.Number - y.Use.Number })
	for _, v := range used[:max(0, len(used)-fullUses)] {
		short := &Use{Number: v.Use.Number, At: v.Use.At}
		if saved := length(v.Use) - length(short); excess > 0 && saved > 0 {
			v.Use, excess = short, excess-saved
		}
	}
	first := 0
	for ; first < len(e.Values) && excess > 0; first++ {
		excess -= length(e.Values[first]) + len(",")
	}
	e.Values = slices.Delete(e.Values, 0, first)
}

// length is how many bytes v has in storage.
func length(v any) int {
	raw, _ := json.Marshal(v) // what can't be encoded, the write refuses
	return len(raw)
}

func (v value) expired(now time.Time, retention time.Duration) bool {
	return !now.Before(v.Retired.Add(retention))
}

// readAgain is after how long an entry is read again that could not be.
const readAgain = time.Minute

// load returns the entry of a role, from storage the first time. A damaged one counts as
// empty, because no value could be retired any more otherwise.
func (t *Tripwire) load(ctx context.Context, k *kept) (*entry, error) {
	if e := k.read(); e != nil {
		return e, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return t.loadLocked(ctx, k)
}

func (t *Tripwire) loadLocked(ctx context.Context, k *kept) (*entry, error) {
	if e := k.read(); e != nil {
		return e, nil
	}
	raw, err := t.ports.Store.ReadRaw(ctx, k.key)
	if err != nil {
		k.failed = t.ports.Now()
		return nil, fmt.Errorf("read %s: %w", k.key, err)
	}
	e := &entry{}
	if raw != nil {
		if err := json.Unmarshal(raw, e); err != nil {
			t.ports.Log().Error("what is kept of retired values is damaged, and begins again", "entry", k.key, "error", err)
			e = &entry{}
		}
	}
	k.take(e)
	return e, nil
}

// read returns the entry, nil if it was not read yet.
func (k *kept) read() *entry {
	k.known.RLock()
	defer k.known.RUnlock()
	return k.entry
}

// take makes e what is known.
func (k *kept) take(e *entry) {
	e.Values = slices.DeleteFunc(e.Values, func(v value) bool { return len(v.Digests) == 0 })
	places := map[mark]int{}
	for i, v := range e.Values {
		places[v.identity()] = i
		if v.KeyID != "" {
			places[mark{secret: v.Secret, keyID: v.KeyID}] = i
		}
	}
	k.known.Lock()
	defer k.known.Unlock()
	k.entry, k.places = e, places
	for _, v := range e.Values {
		if v.unproven() && v.Use != nil && v.Use.At.After(k.unproven) {
			k.unproven = v.Use.At
		}
	}
}

// change stores the entry of a role as edit has changed it.
func (t *Tripwire) change(ctx context.Context, k *kept, edit func(*entry)) error {
	retention, err := t.ports.Retention(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := t.loadLocked(ctx, k)
	if err != nil {
		return err
	}
	next := &entry{Uses: now.Uses, Values: slices.Clone(now.Values)}
	edit(next)
	next.expire(t.ports.Now(), retention)
	switch {
	case next.Uses == now.Uses && slices.EqualFunc(next.Values, now.Values, same):
		return nil
	case len(next.Values) == 0 && next.Uses == 0:
		err = t.ports.Store.Delete(ctx, k.key)
	default:
		err = t.ports.Store.Write(ctx, k.key, next)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", k.key, err)
	}
	k.take(next)
	return nil
}

// same reports whether two values are stored alike.
func same(x, y value) bool {
	return x.identity() == y.identity() && x.Retired.Equal(y.Retired) && x.Version == y.Version && x.Use == y.Use
}

// waiting are the uses that are not stored yet.
func (k *kept) waiting() map[mark]Use {
	k.known.RLock()
	defer k.known.RUnlock()
	return maps.Clone(k.noted)
}
