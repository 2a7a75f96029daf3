package tripwire

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"
)

// kept is what is known of the retired values of one role. Those whose values nobody
// presents take little memory: what is stored of a value has some hundreds of bytes, and
// there may be a thousand of each of ten thousand roles.
type kept struct {
	// key is that of the entry in storage.
	key string
	// mu is held while the entry is read and written. Whoever verifies waits for it only
	// where the entry was not read yet.
	mu sync.Mutex

	known sync.RWMutex // guards what follows
	// failed is when the entry could not be read.
	failed time.Time
	// complete says that traces are those of all values.
	complete bool
	// traces are ordered by print. Those of values that are dropped may stay.
	traces []trace
	// uses is how many were noted; negative until that is known.
	uses int
	// used is when values were used within the last hour, by print.
	used map[uint64]time.Time
	// noted are the uses that are not stored yet.
	noted map[mark]Use
	// unproven is when the latest use was noted of a key that a token only names.
	unproven time.Time
}

// trace is what is kept in memory of a value for each of its marks.
type trace struct {
	print   uint64
	retired int64 // in seconds since 1970
}

// maxTraces is how many traces a role has at most before they are read again.
const maxTraces = 4 * MaxValues

// print is a number that two marks have in common only by a chance that is no matter.
func (m mark) print() uint64 {
	sum := sha256.Sum256([]byte(m.secret + "\x00" + m.typeName + "\x00" + m.keyID + "\x00" + string(m.digest[:])))
	return binary.BigEndian.Uint64(sum[:])
}

func byPrint(t trace, print uint64) int { return cmp.Compare(t.print, print) }

// readAgain is after how long an entry is read again that could not be.
const readAgain = time.Minute

// learn reads what is stored of a role, the first time.
func (t *Tripwire) learn(ctx context.Context, k *kept) error {
	if k.isComplete() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isComplete() {
		return nil
	}
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
	k.complete, k.uses = true, e.Uses
	return nil
}

// take takes in all values of the role.
func (k *kept) take(all []value, now time.Time) {
	k.traces, k.used = nil, map[uint64]time.Time{}
	for _, v := range all {
		for _, m := range v.marks() {
			k.traces = append(k.traces, trace{m.print(), v.Retired.Unix()})
			if v.Use != nil && now.Before(v.Use.At.Add(noteAgain)) {
				k.used[m.print()] = v.Use.At
			}
		}
		if v.unproven() && v.Use != nil && v.Use.At.After(k.unproven) {
			k.unproven = v.Use.At
		}
	}
	slices.SortFunc(k.traces, func(x, y trace) int { return cmp.Compare(x.print, y.print) })
	k.traces = slices.Clip(k.traces)
}

// reread returns the entry of a role as it is stored now.
func (t *Tripwire) reread(ctx context.Context, k *kept) (*entry, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, err := t.read(ctx, k.key)
	if err == nil {
		k.learned(nil, e.Uses)
	}
	return e, err
}

// learned takes in what was just stored.
func (k *kept) learned(values []value, uses int) {
	k.known.Lock()
	defer k.known.Unlock()
	k.uses = uses
	if !k.complete {
		return
	}
	for _, v := range values {
		for _, m := range v.marks() {
			at, found := slices.BinarySearchFunc(k.traces, m.print(), byPrint)
			if !found {
				k.traces = slices.Insert(k.traces, at, trace{print: m.print()})
			}
			k.traces[at].retired = v.Retired.Unix()
		}
	}
	if len(k.traces) > maxTraces {
		k.complete, k.traces = false, nil
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
	return k.uses >= 0 && k.uses <= number
}

// find reports whether the value with that mark is a retired one, and whether a use of it
// now is to be noted.
func (k *kept) find(m mark, now time.Time, retention time.Duration) (found, due bool) {
	k.known.RLock()
	defer k.known.RUnlock()
	print := m.print()
	at, found := slices.BinarySearchFunc(k.traces, print, byPrint)
	if !found || !now.Before(time.Unix(k.traces[at].retired, 0).Add(retention)) {
		return false, false
	}
	return true, k.due(m, print, now)
}

// due reports whether a use now is to be noted. Of all keys together that tokens only name,
// one use an hour is.
func (k *kept) due(m mark, print uint64, now time.Time) bool {
	_, waiting := k.noted[m]
	last, used := k.used[print]
	if waiting || used && now.Before(last.Add(noteAgain)) {
		return false
	}
	return m.keyID == "" || !now.Before(k.unproven.Add(noteAgain))
}

// note has a use stored soon, unless another one was noted since.
func (k *kept) note(m mark, u Use) {
	k.known.Lock()
	defer k.known.Unlock()
	print := m.print()
	if !k.due(m, print, u.At) {
		return
	}
	if k.noted == nil {
		k.noted = map[mark]Use{}
	}
	if k.used == nil {
		k.used = map[uint64]time.Time{}
	}
	maps.DeleteFunc(k.used, func(_ uint64, at time.Time) bool { return !u.At.Before(at.Add(noteAgain)) })
	k.noted[m], k.used[print] = u, u.At
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
