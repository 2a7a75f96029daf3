package tripwire

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// kept is what is known of the retired values of one role: nothing before somebody presents
// an invalid value, then 16 bytes of each. What is stored of a value has some hundreds of
// bytes, and there may be a thousand of each of ten thousand roles.
type kept struct {
	// key is that of the entry in storage.
	key string
	// mu is held while the entry is changed, and while what is known of it is. Whoever
	// verifies waits for it only where the values are not known.
	mu sync.Mutex
	// unsure says that a write has failed, and may have landed; guarded by mu.
	unsure bool

	known sync.RWMutex // guards what follows
	// failed is when the entry could not be read.
	failed time.Time
	// complete says that traces are those of all values.
	complete bool
	// traces are ordered by fingerprint.
	traces []trace
	// lastUse is the number of the latest use that is stored; negative until that is known.
	lastUse int
	// used is when values were used within the last hour, by fingerprint.
	used map[uint64]time.Time
	// noted are the uses that are not stored yet.
	noted map[mark]Use
	// unproven is when the latest use was noted of a key that a token only names.
	unproven time.Time
}

// trace is what is kept in memory of values with the same mark.
type trace struct {
	fingerprint uint64
	retired     int64 // when the last of them was, in seconds since 1970
}

// fingerprint is a number that two marks have in common only by a chance that is no matter.
func (m mark) fingerprint() uint64 {
	sum := sha256.Sum256([]byte(m.secret + "\x00" + m.typeName + "\x00" + m.keyID + "\x00" + string(m.digest[:])))
	return binary.BigEndian.Uint64(sum[:])
}

func byFingerprint(t trace, fingerprint uint64) int { return cmp.Compare(t.fingerprint, fingerprint) }

const (
	// readAgain is after how long an entry is read again that could not be.
	readAgain = time.Minute
	// readTimeout bounds the reading. It is not that of the request for which a role is
	// read: whoever gives up early must not keep others from being recognized.
	readTimeout = 10 * time.Second
)

// errUnreadable is for whoever has waited for a reading that failed.
var errUnreadable = errors.New("the storage has just failed to answer")

// learn reads what is stored of a role, if that is not known.
func (t *Tripwire) learn(ctx context.Context, k *kept) error {
	if k.isComplete() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.isComplete():
		return nil
	case k.unreadable(t.ports.Now()):
		return errUnreadable
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	e, err := t.read(ctx, k.key)
	var all []value
	if err == nil {
		all, err = t.values(ctx, k.key, e)
	}
	k.known.Lock()
	defer k.known.Unlock()
	if err != nil {
		k.failed = t.ports.Now()
		return err
	}
	k.take(all, t.ports.Now())
	k.complete, k.failed, k.lastUse = true, time.Time{}, e.lastUse()
	return nil
}

// take takes in all values of the role. Uses that are not stored yet stay known.
func (k *kept) take(all []value, now time.Time) {
	k.traces = make([]trace, 0, len(all))
	if k.used == nil {
		k.used = map[uint64]time.Time{}
	}
	for _, v := range all {
		k.trace(v)
		if v.Use == nil {
			continue
		}
		if now.Before(v.Use.At.Add(noteAgain)) {
			k.used[v.mark().fingerprint()] = v.Use.At
		}
		if v.unproven() && v.Use.At.After(k.unproven) {
			k.unproven = v.Use.At
		}
	}
}

// trace takes in one value.
func (k *kept) trace(v value) {
	fingerprint := v.mark().fingerprint()
	at, found := slices.BinarySearchFunc(k.traces, fingerprint, byFingerprint)
	if !found {
		k.traces = slices.Insert(k.traces, at, trace{fingerprint: fingerprint})
	}
	k.traces[at].retired = max(k.traces[at].retired, v.Retired.Unix())
}

// reread returns the entry of a role as it is stored now.
func (t *Tripwire) reread(ctx context.Context, k *kept) (*entry, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, err := t.read(ctx, k.key)
	if err == nil {
		k.learned(nil, e.lastUse(), false)
	}
	return e, err
}

// learned takes in what is stored now: the latest values, and the number of the latest use.
// If values were dropped, nobody knows here which, and all are read again when it matters.
func (k *kept) learned(latest []value, lastUse int, dropped bool) {
	k.known.Lock()
	defer k.known.Unlock()
	k.lastUse = lastUse
	if dropped {
		k.complete, k.traces = false, nil
	}
	if k.complete {
		for _, v := range latest {
			k.trace(v)
		}
	}
}

func (k *kept) isComplete() bool {
	k.known.RLock()
	defer k.known.RUnlock()
	return k.complete
}

// unreadable reports whether the entry could not be read a short while ago.
func (k *kept) unreadable(now time.Time) bool {
	k.known.RLock()
	defer k.known.RUnlock()
	return !k.complete && !k.failed.IsZero() && now.Before(k.failed.Add(readAgain))
}

// noUsesAfter reports whether it is known that no use has a higher number.
func (k *kept) noUsesAfter(number int) bool {
	k.known.RLock()
	defer k.known.RUnlock()
	return k.lastUse >= 0 && k.lastUse <= number
}

// find reports whether the value with that mark is a retired one, and whether a use of it
// now is to be noted. It knows only of a role that is complete.
func (k *kept) find(m mark, now time.Time, retention time.Duration) (found, due, complete bool) {
	k.known.RLock()
	defer k.known.RUnlock()
	at, found := slices.BinarySearchFunc(k.traces, m.fingerprint(), byFingerprint)
	if !found || !now.Before(time.Unix(k.traces[at].retired, 0).Add(retention)) {
		return false, false, k.complete
	}
	return true, k.due(m, now), k.complete
}

// due reports whether a use now is to be noted. Of all keys together that tokens only name,
// one use an hour is.
func (k *kept) due(m mark, now time.Time) bool {
	_, waiting := k.noted[m]
	last, used := k.used[m.fingerprint()]
	if waiting || used && now.Before(last.Add(noteAgain)) {
		return false
	}
	return m.keyID == "" || !now.Before(k.unproven.Add(noteAgain))
}

// note has a use stored soon, unless another one was noted since.
func (k *kept) note(m mark, u Use) {
	k.known.Lock()
	defer k.known.Unlock()
	if !k.due(m, u.At) {
		return
	}
	if k.noted == nil {
		k.noted = map[mark]Use{}
	}
	if k.used == nil {
		k.used = map[uint64]time.Time{}
	}
	maps.DeleteFunc(k.used, func(_ uint64, at time.Time) bool { return !u.At.Before(at.Add(noteAgain)) })
	k.noted[m], k.used[m.fingerprint()] = u, u.At
	if m.keyID != "" {
		k.unproven = u.At
	}
}

// waiting are the uses that are not stored yet.
func (k *kept) waiting() map[mark]Use {
	k.known.RLock()
	defer k.known.RUnlock()
	return maps.Clone(k.noted)
}

// drop forgets uses that are stored, or whose value is not kept any more.
func (k *kept) drop(uses map[mark]Use) {
	k.known.Lock()
	defer k.known.Unlock()
	for m := range uses {
		delete(k.noted, m)
	}
}
