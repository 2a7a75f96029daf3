package rotation

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// watch checks, after each side effect, what must be true at every moment: what
// readers get works, in this process and in one that would start now.
func (w *world) watch(string) {
	if w.role != nil {
		w.watchReaders("in memory", w.role.Snapshot().State)
	}
	if w.stored != nil {
		w.watchReaders("in storage", w.stored)
	}
}

func (w *world) watchReaders(where string, s *State) {
	for _, name := range s.Names() {
		secret := s.Secrets[name]
		if secret.Current == nil {
			continue
		}
		window := secret.Type == "single" && secret.Undecided() != nil
		if err := w.worksOrAdrift(secret.Current.Material); err != nil && !window {
			w.breakf("%s: current %s of version %d does not work: %v", where, name, secret.Current.Version, err)
		}
		previous := secret.PreviousAt(w.clock)
		if previous == nil || secret.Type == "single" || s.InFlight != nil || secret.Unresolved != nil {
			continue
		}
		if err := w.worksOrAdrift(previous.Material); err != nil {
			w.breakf("%s: previous %s of version %d does not work in its overlap: %v", where, name, previous.Version, err)
		}
	}
}

// worksOrAdrift is login, but for values that stopped working by themselves: once
// they work again they have to stay so.
func (w *world) worksOrAdrift(v Material) error {
	err := w.login(v)
	if len(w.adrift) == 0 {
		return err
	}
	id := identity(v)
	if err == nil {
		delete(w.adrift, id)
	} else if w.adrift[id] {
		return nil
	}
	return err
}

// watchSave checks what one write may change.
func (w *world) watchSave(old, next *State) {
	if old == nil {
		old = &State{}
	}
	if next.Version < old.Version || next.Version > old.Version+1 {
		w.breakf("version went from %d to %d", old.Version, next.Version)
	}
	if next.History.Count < old.History.Count || next.History.Base < old.History.Base {
		w.breakf("history went from %+v to %+v", old.History, next.History)
	}
	for _, name := range next.Names() {
		w.watchValues(next, next.Secrets[name])
		w.watchDrain(next, old.Secrets[name], next.Secrets[name])
		w.watchAsked(old.Secrets[name], next.Secrets[name])
	}
	w.watchAnswers(old, next)
	if next.Version == old.Version+1 {
		w.watchCommit(old, next)
	}
}

// identity is what a value is, wherever it is used.
func identity(v Material) string {
	var id strings.Builder
	for _, field := range slices.Sorted(maps.Keys(v)) {
		if field != "place" {
			id.WriteString(field + ":" + v[field] + " ")
		}
	}
	return id.String()
}

// watchValues checks that a version of a secret is one value for ever, and that
// no stage outlives its operation.
func (w *world) watchValues(s *State, secret *Secret) {
	for _, v := range []*Value{secret.Current, secret.Previous} {
		if v == nil {
			continue
		}
		id := fmt.Sprintf("%d/%s", v.Version, secret.Name)
		is := identity(v.Material)
		if was, ok := w.used[id]; ok && was != is {
			w.breakf("version %s was used for two values", id)
		}
		if w.used[id] = is; v.Version < 1 || v.Version > s.Version {
			w.breakf("value %s does not belong to version %d of the role", id, s.Version)
		}
	}
	if s.InFlight == nil && (secret.Pending != nil || secret.Current == nil && secret.Unresolved == nil) {
		w.breakf("%s is left half made with nothing in flight", secret.Name)
	}
	if next := secret.Next; next != nil && secret.Current != nil && next.Material.Equal(secret.Current.Material) {
		w.breakf("%s is published as next, and in use", secret.Name)
	}
	previous := secret.Previous
	if previous != nil && previous.RetireTime.IsZero() {
		w.breakf("previous %s has no end", secret.Name)
	}
	if previous != nil && !previous.LookTime.IsZero() && (previous.LookTime.After(previous.RetireTime) || !previous.DestroyTime.IsZero()) {
		w.breakf("%s is waited for until %s, and looked at %s", secret.Name, previous.RetireTime, previous.LookTime)
	}
}

// watchCommit checks that a version is never split.
func (w *world) watchCommit(old, next *State) {
	if rec := next.Latest(); rec != nil && (rec.Kind == KindMove || rec.Kind == KindRepair) && rec.Version == next.Version {
		w.watchMove(old, next, rec)
		return
	}
	op := old.InFlight
	for name, secret := range old.Secrets {
		if secret.Unresolved != nil && next.Secrets[name].Unresolved == nil && op == nil {
			op = &secret.Unresolved.Operation
			w.forward++
		}
	}
	if op == nil || next.InFlight != nil {
		w.breakf("version %d was committed outside of an operation", next.Version)
		return
	}
	for _, name := range op.Secrets {
		if v := next.currentVersion(name); v != next.Version {
			w.breakf("version %d is split: %s has %d", next.Version, name, v)
		}
		w.watchHandover(op, next.Secrets[name])
		w.watchPublished(op, old.Secrets[name], next.Secrets[name])
	}
}

// watchMove checks that what becomes a new version without new values is used at
// another place, and that this is all that changes.
func (w *world) watchMove(old, next *State, rec *Record) {
	for _, name := range next.Names() {
		was, is := old.Secrets[name].Current, next.Secrets[name].Current
		moved := was.Material["place"] != is.Material["place"]
		if identity(was.Material) != identity(is.Material) || moved && (is.Version != next.Version || !slices.Contains(rec.Secrets, name)) || !moved && is.Version != was.Version {
			w.breakf("a %s to version %d changed version %d of %s to %d", rec.Kind, next.Version, was.Version, name, is.Version)
		}
	}
}

// watchPublished checks that a rotation makes current what was published for it,
// and publishes what follows; and that a rollback leaves that alone.
func (w *world) watchPublished(op *Operation, old, now *Secret) {
	if now.Type != "jwt" || string(now.Config) != "{}" || old.Next == nil && old.Current != nil {
		return
	}
	switch {
	case now.Next == nil:
		w.breakf("%s has nothing published after %s", now.Name, op.Kind)
	case op.Kind == KindRollback && !now.Next.Material.Equal(old.Next.Material):
		w.breakf("a rollback of %s published something else", now.Name)
	case op.Kind == KindRotate && !now.Current.Material.Equal(old.Next.Material):
		w.breakf("what a rotation made current of %s was not published before", now.Name)
	}
}

// settled checks what must be true once nothing is left to be done.
func (w *world) settled(t testing.TB) {
	t.Helper()
	s := w.role.Snapshot()
	if s.InFlight != nil {
		t.Fatalf("%s %s is still in flight: %s", s.InFlight.Kind, s.InFlight.ID, s.LastError)
	}
	for name, secret := range s.Secrets {
		if secret.Unresolved != nil {
			t.Fatalf("%s is still unresolved: %s", name, secret.Unresolved.Cause)
		}
	}
	history, entries, err := w.role.Entries(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := history.VerifyChain(entries); err != nil {
		t.Fatalf("history: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch("settled")
	w.onlyOffered(s.State)
	kept, pruned := map[string]bool{}, history.Base == 0
	for _, e := range entries {
		kept[e.Hash] = true
		pruned = pruned || bytes.Contains(e.Record, []byte(`"pruned":{`))
	}
	if !pruned {
		w.breakf("entries up to %d were dropped, and none says so", history.Base)
	}
	for id, hash := range w.recorded {
		if !kept[hash] && w.settings.Retention == 0 && w.settings.MaxAge == 0 {
			w.breakf("operation %s has ended and is not in history", id)
		}
	}
	if len(w.broken) > 0 {
		t.Fatalf("%s", w.broken[0])
	}
}

// onlyOffered checks that the users of alternating secrets accept nothing but
// what is offered, or kept to be rolled back to.
func (w *world) onlyOffered(s *State) {
	for _, secret := range s.Secrets {
		if secret.Current.Material["username"] == "" || secret.Type == "single" {
			continue
		}
		known := map[string]bool{"": true, secret.Current.Material["password"]: true}
		if secret.Previous != nil {
			known[secret.Previous.Material["password"]] = true
		}
		for _, user := range []string{"app_a", "app_b"} {
			if !known[w.users[user]] && w.users[user] != strayed {
				w.breakf("user %s accepts a password that is neither current nor previous", user)
			}
		}
	}
}
