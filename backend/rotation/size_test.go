package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A role may not become so large that storage would refuse its commit, and a role
// that is too large may become smaller.
func TestARoleMayNotOutgrowStorage(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	describe := func(bytes int) error {
		config, err := json.Marshal(strings.Repeat("x", bytes))
		must(t, err)
		return w.role.change(t.Context(), nil, func(s *State) error {
			s.Secrets["db"].Config = config
			return nil
		})
	}
	must(t, describe(maxDescribed*3/4))
	if err := describe(maxDescribed); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "bytes of storage") {
		t.Fatalf("a role of more than %d bytes: %v", maxDescribed, err)
	}
	if _, err := w.do(rotate()); err != nil {
		t.Fatalf("rotate what was described before: %v", err)
	}
	w.reboot(t, maxIntended)
	if _, err := w.do(rotate()); !errors.Is(err, ErrInvalid) {
		t.Fatalf("an intent that leaves no room for the commit: %v", err)
	}
	must(t, describe(maxIntended-maxDescribed))
	must(t, describe(10))
	if _, err := w.do(rotate()); err != nil {
		t.Fatal(err)
	}
}

// random models values that are at no target, and not published ahead.
type random struct{ Driver }

// Local implements Local.
func (random) Local() bool { return true }

// many adds so many secrets of a type to a role, each with a value.
func (w *world) many(t *testing.T, n int, kind, name string) error {
	t.Helper()
	w.engine.Drivers["random"] = random{&key{w}}
	return w.role.change(t.Context(), nil, func(s *State) error {
		for i := range n {
			added := &Secret{Name: fmt.Sprintf("%s-%04d", name, i), Type: kind, ShownOnce: kind == "hidden", Config: []byte(`{"length":32}`)}
			material, err := w.engine.Drivers[kind].Create(t.Context(), *added)
			if err != nil {
				return err
			}
			added.Current = &Value{Material: material, Version: s.Version, Created: w.clock}
			if publishes(w.engine.Drivers[kind], *added) {
				added.Next = &Value{Material: Material{"secret": w.next("secret"), "format": string(added.Config)}, Created: w.clock}
			}
			s.Secrets[added.Name] = added
		}
		return nil
	})
}

// TestWhatIsDescribedCanBeCommitted fills roles with secrets of each type that needs no
// target, as many as are accepted. No operation on them is refused for its size, and
// storage takes the end of each; and the estimate is not much more than that needs.
func TestWhatIsDescribedCanBeCommitted(t *testing.T) {
	t.Parallel()
	for kind, name := range map[string]string{"random": "x", "jwt": "signing-key-of-the-" + strings.Repeat("long-", 8), "hidden": "api-key"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := made(t, "app", "db", "jwt", "api")
			defer func() { w.stop() }()
			n := 0
			for ; w.many(t, 20, kind, fmt.Sprintf("%s-%d", name, n)) == nil; n += 20 {
			}
			described, limit := w.role.Snapshot().Room()
			if n < 100 || described < limit*9/10 {
				t.Fatalf("%d secrets are accepted, and take %d bytes of %d", n, described, limit)
			}
			most := 0
			do := func(what string, req Request, fails ...*namedFault) {
				t.Helper()
				w.named = fails
				_, err := w.do(req)
				if errors.Is(err, ErrInvalid) || err != nil && len(fails) == 0 {
					t.Errorf("%s: %v", what, err)
				}
				for ; w.isDead(); w.boot(t) {
				}
				w.engine.Drivers["random"] = random{&key{w}}
				w.named = nil
				w.idle(t, time.Minute, 5)
				if s := w.role.Snapshot(); s.open() || len(s.Unresolved()) > 0 {
					t.Fatalf("%s does not end: %s", what, s.LastError)
				}
				most = max(most, size(w.role.Snapshot().State))
			}
			revoke := rotate()
			revoke.RevokePrevious = true
			do("rotate", rotate())
			do("rotate in an overlap", rotate())
			do("rotate in vain", rotate(), &namedFault{"db.test", 0, fault{how: refused}})
			do("roll back", Request{Kind: KindRollback, Trigger: TriggerManual})
			do("repair", Request{Kind: KindRepair, Trigger: TriggerManual})
			do("rotate, die and go back", rotate(), &namedFault{"db.set", 0, fault{how: death}})
			do("rotate and lose touch", rotate(), &namedFault{"app.set", 0, fault{landed: true, how: once}}, &namedFault{"app.undo", 0, fault{how: once}})
			do("rotate again", rotate())
			w.advance(25 * time.Hour)
			do("retire", Request{Kind: KindRetire, Trigger: TriggerSchedule})
			do("revoke", revoke)
			t.Logf("%d secrets take at most %d bytes, and were estimated to take %d", n, most, described)
			if most > described || most < described/3 {
				t.Errorf("%d secrets take %d bytes, and were estimated to take %d", n, most, described)
			}
		})
	}
}

// TestRoleThatHasOutgrownStorage is one that an earlier version let grow: 2,000 secrets
// and a login of a single user. Storage would not take its commit, so its rotation is
// refused before the login is touched, and that of a part is not.
func TestRoleThatHasOutgrownStorage(t *testing.T) {
	t.Parallel()
	w := made(t, "app")
	if err := w.many(t, 2000, "random", "session"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "over two roles") {
		t.Fatalf("2,000 secrets may be described: %v", err)
	}
	must(t, w.role.update(t.Context(), func(s *State) error {
		for i := range 2000 {
			name := fmt.Sprintf("session-%04d", i)
			s.Secrets[name] = &Secret{Name: name, Type: "random", Config: []byte(`{}`), Current: &Value{Material: Material{"secret": name}, Version: 1, Created: w.clock}}
		}
		return nil
	}))
	_, err := w.do(rotate())
	if s := w.role.Snapshot(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "over two roles") || s.open() || slices.Contains(w.calls, "app.set") {
		t.Errorf("a commit that storage would not take: %v", err)
	}
	_, err = w.do(rotate("app", "session-0001"))
	must(t, err)
}

// reboot starts with a role that another version has let become so large.
func (w *world) reboot(t *testing.T, bytes int) {
	t.Helper()
	s, err := Decode(w.state)
	must(t, err)
	s.Secrets["db"].Config, err = json.Marshal(strings.Repeat("x", bytes))
	must(t, err)
	w.state, err = json.Marshal(s)
	must(t, err)
	w.boot(t)
}
