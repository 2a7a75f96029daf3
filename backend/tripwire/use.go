package tripwire

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

const (
	// noteAgain is for how long after a use of a value no other one of it is noted, and
	// after a token that only names a key none that names any key of the role.
	noteAgain = time.Hour
	// storeAgain is after how long uses are stored again that could not be.
	storeAgain = 10 * time.Second
	// sweepEvery is how often what is kept for long enough is dropped.
	sweepEvery = 24 * time.Hour
	// maxActor bounds the name of who asked, in bytes, of which an entry has many.
	maxActor = 128
)

// ErrReadOnly says that a use is to be noted on a node that may not write.
var ErrReadOnly = errors.New("the use of a retired value is noted on the active node")

// Presented is a value that somebody had verified, and that is not valid.
type Presented struct {
	// Secret is the name, Type the type of the secret that it is presented as. The secret
	// may have had another type before: a guess at a value of that is not answered.
	Secret, Type string
	// Text is the value; of a token that names a key, KeyID is that.
	Text, KeyID string
	// Actor and Address are of who asked.
	Actor   rotation.Actor
	Address string
}

// mark is by what the value is recognized.
func (p Presented) mark() mark {
	if p.KeyID != "" {
		return mark{secret: p.Secret, typeName: p.Type, keyID: p.KeyID}
	}
	return mark{secret: p.Secret, typeName: p.Type, digest: secret.DigestOf(p.Text)}
}

// Recognize reports whether a value that is not valid is a retired one of that role, and
// has its use noted, at most once an hour for each value, and for all keys together that
// tokens only name: anybody can make up such tokens. It waits for storage only where
// the role's values are not known: nobody can make it read or write by presenting what
// was never a value. ErrReadOnly has the request be repeated where the use can be noted.
func (t *Tripwire) Recognize(ctx context.Context, r *rotation.Role, p Presented) (bool, error) {
	k, now := t.of(r.Key), t.ports.Now()
	if k.unreadable(now) {
		return false, nil
	}
	retention, err := t.ports.Retention(ctx)
	found, due := false, false
	for complete := false; err == nil && !complete; {
		if err = t.learn(ctx, k); err == nil {
			found, due, complete = k.find(p.mark(), now, retention)
		}
	}
	if err != nil {
		t.ports.Log().Warn("retired values are not recognized now", "subject", r.Key, "error", err)
		return false, nil
	}
	switch {
	case !found:
		return false, nil
	case !due:
		return true, nil
	case !t.ports.Writable():
		return true, ErrReadOnly
	}
	k.note(p.mark(), Use{At: now.UTC().Truncate(time.Second), Actor: bounded(p.Actor), Address: p.Address})
	wake(t.signal)
	return true, nil
}

// bounded is an actor whose name is not longer than an entry has room for.
func bounded(a rotation.Actor) rotation.Actor {
	if len(a.DisplayName) > maxActor {
		a.DisplayName = strings.ToValidUTF8(a.DisplayName[:maxActor], "") + "…"
	}
	return a
}

// wake sends a signal, unless one is pending already.
func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// Run stores the uses that are noted, and drops what was kept for long enough, until ctx
// ends.
func (t *Tripwire) Run(ctx context.Context) {
	again, sweep := time.NewTimer(time.Hour), time.NewTicker(sweepEvery)
	defer again.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-t.signal:
		case <-sweep.C:
			t.dropExpired(ctx)
		case <-t.sweep:
			t.dropExpired(ctx)
		}
		if !t.storeUses(ctx) {
			again.Reset(storeAgain)
		}
	}
}

// RetentionChanged has what is kept too long be dropped soon. It never blocks.
func (t *Tripwire) RetentionChanged() { wake(t.sweep) }

// storeUses stores all uses that are noted, and reports whether it could.
func (t *Tripwire) storeUses(ctx context.Context) bool {
	stored := true
	t.roles.Range(func(key, known any) bool {
		k := known.(*kept)
		waiting := k.waiting()
		if len(waiting) == 0 {
			return true
		}
		var noted []value
		err := t.change(ctx, k, func(e *entry) (err error) {
			noted, err = t.use(ctx, k.key, e, waiting)
			return err
		})
		if err != nil {
			t.ports.Log().Warn("uses of retired values are not stored, and are tried again", "subject", key, "error", err)
			stored = false
			return true
		}
		k.drop(waiting)
		for _, v := range noted {
			t.ports.Log().Warn("retired value used", "subject", key, "secret", v.Secret, "type", v.Type, "version", v.Version,
				"entity_id", v.Use.Actor.EntityID, "display_name", v.Use.Actor.DisplayName, "remote_address", v.Use.Address)
		}
		t.ports.Noted(key.(string))
		return true
	})
	return stored
}

// use adds uses to values of an entry, and returns those, in the order in which they were
// retired. Of values with the same mark, the one that was retired last has the use.
func (t *Tripwire) use(ctx context.Context, key string, e *entry, uses map[mark]Use) ([]value, error) {
	all, err := t.values(ctx, key, e)
	if err != nil {
		return nil, err
	}
	latest := map[mark]int{}
	for i, v := range all {
		if known, ok := latest[v.mark()]; !ok || !v.Retired.Before(all[known].Retired) {
			latest[v.mark()] = i
		}
	}
	var used []value
	for i, v := range all {
		if use, ok := uses[v.mark()]; ok && latest[v.mark()] == i {
			if v.Use != nil && v.Use.At.Equal(use.At) { // an earlier write has landed
				use.Number = v.Use.Number
			} else {
				e.Uses++
				use.Number = e.Uses
			}
			v.Use = &use
			used = append(used, v)
			e.setUsed(v)
		}
	}
	return used, nil
}

// setUsed takes in the use of a value.
func (e *entry) setUsed(v value) {
	for _, all := range [][]value{e.Values, e.Used} {
		for i := range all {
			if all[i].identity() == v.identity() {
				all[i].Use = v.Use
				return
			}
		}
	}
	e.Used = append(e.Used, v)
}

// dropExpired goes through all entries that are stored.
func (t *Tripwire) dropExpired(ctx context.Context) {
	keys, err := t.stored(ctx)
	for _, key := range keys {
		failed := t.change(ctx, t.of(key), func(*entry) error { return nil })
		if failed == nil {
			failed = t.dropPages(ctx, t.of(key))
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = failed
		}
	}
	if err != nil {
		t.ports.Log().Warn("what is kept of retired values is not dropped in time, and is tried again within a day", "error", err)
	}
}

// dropPages deletes the pages that the entry of a role does not name: those that were
// written, or were to be deleted, when a process ended.
func (t *Tripwire) dropPages(ctx context.Context, k *kept) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, err := t.read(ctx, k.key)
	if err != nil {
		return err
	}
	names, err := t.ports.Store.List(ctx, k.key+"/")
	for _, name := range names {
		at := k.key + "/" + name
		if err == nil && !slices.ContainsFunc(e.Pages, func(p page) bool { return pageKey(k.key, p.Number) == at }) {
			err = t.ports.Store.Delete(ctx, at)
		}
	}
	return err
}

// stored lists the keys of the roles and connections that have an entry or pages, also of
// those that were deleted.
func (t *Tripwire) stored(ctx context.Context) ([]string, error) {
	var keys []string
	for _, prefix := range []string{roles.Prefix, roles.ConnectionPrefix} {
		names, err := t.ports.Store.List(ctx, Prefix+prefix)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			name, _, _ = strings.Cut(name, "/")
			keys = append(keys, prefix+name)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// Noted is a use that is stored, and the value that it is of.
type Noted struct {
	Use
	Secret, Type string
	Version      int
	// Token says that a token named the key, which nobody can tell from one that was
	// made up.
	Token bool
}

// Uses returns the uses of a role's retired values after that number, in order.
func (t *Tripwire) Uses(ctx context.Context, r *rotation.Role, after int) ([]Noted, error) {
	k := t.of(r.Key)
	if k.noUsesAfter(after) {
		return nil, nil
	}
	e, err := t.reread(ctx, k)
	if err != nil {
		return nil, err
	}
	var uses []Noted
	for _, v := range append(e.Used, e.Values...) {
		if v.Use != nil && v.Use.Number > after {
			uses = append(uses, Noted{Use: *v.Use, Secret: v.Secret, Type: v.Type, Version: v.Version, Token: v.unproven()})
		}
	}
	slices.SortFunc(uses, func(x, y Noted) int { return x.Number - y.Number })
	return uses, nil
}
