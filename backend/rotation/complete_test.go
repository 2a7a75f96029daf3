package rotation

import (
	"context"
	"fmt"
	"maps"
	"testing"
)

// completing is a driver whose target is given a salt beside each password. It notes
// the salt that each password was set with, and what was set without the storage
// knowing it.
type completing struct {
	Driver
	w      *world
	salts  map[string]string
	faults *[]string
}

func (c completing) Complete(_ Secret, v Material) (Material, error) {
	if v["salt"] != "" {
		return v, nil
	}
	whole := maps.Clone(v)
	whole["salt"] = c.w.next("salt")
	return whole, nil
}

func (c completing) note(s Secret, v Material) {
	known := false
	for _, kept := range []*Value{s.Current, s.Previous, s.Pending} {
		known = known || kept != nil && kept.Material.Equal(v)
	}
	if before := c.salts[v["password"]]; !known || v["salt"] == "" || before != "" && before != v["salt"] {
		*c.faults = append(*c.faults, fmt.Sprintf("%s was set with %q after %q, kept: %t", v["password"], v["salt"], before, known))
	}
	c.salts[v["password"]] = v["salt"]
}

func (c completing) Set(ctx context.Context, s Secret, v Material, fence Fence) error {
	c.note(s, v)
	return c.Driver.Set(ctx, s, v, fence)
}

func (c completing) Undo(ctx context.Context, s Secret, fence Fence) error {
	for _, v := range []*Value{s.Previous, s.Current} {
		if v != nil && v.Material["username"] == s.Pending.Material["username"] {
			c.note(s, v.Material)
		}
	}
	return c.Driver.Undo(ctx, s, fence)
}

// TestTheSameValueIsSetTheSame begins with values that lack something, as those of an
// earlier version do, and sets each again in every way there is.
func TestTheSameValueIsSetTheSame(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*testing.T, *world){
		"rollback": func(t *testing.T, w *world) {
			for range 3 {
				_, err := w.do(Request{Kind: KindRollback, Trigger: TriggerManual})
				must(t, err)
			}
		},
		"undo": func(t *testing.T, w *world) {
			for _, step := range []string{"app.test", "db.test"} {
				w.fail(step, 0, fault{how: refused})
				if _, err := w.do(rotate()); err == nil {
					t.Error("nothing was undone")
				}
			}
		},
		"undo of a rollback": func(t *testing.T, w *world) {
			w.fail("app.test", 0, fault{how: refused})
			if _, err := w.do(Request{Kind: KindRollback, Trigger: TriggerManual}); err == nil {
				t.Error("nothing was undone")
			}
		},
		"repair": func(t *testing.T, w *world) {
			for range 2 {
				clear(w.users)
				_, err := w.do(repair())
				must(t, err)
			}
		},
		"recovery": func(t *testing.T, w *world) {
			w.fail("app.undo", 0, fault{how: once})
			w.fail("app.test", 0, fault{how: refused})
			if _, err := w.do(rotate()); err == nil {
				t.Error("it was not interrupted")
			}
			_, err := w.do(Request{Kind: KindRepair, Trigger: TriggerManual})
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := made(t, "app", "db")
			_, err := w.do(rotate())
			must(t, err)
			salts, faults := map[string]string{}, []string{}
			for name, driver := range w.engine.Drivers {
				w.engine.Drivers[name] = completing{driver, w, salts, &faults}
			}
			do(t, w)
			if len(faults) > 0 || len(salts) == 0 {
				t.Errorf("of %d values: %q", len(salts), faults)
			}
		})
	}
}

// TestWhatIsNotSetIsLeftAsItIs imports a value, which is in use with what its target has.
func TestWhatIsNotSetIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	faults := []string{}
	for name, driver := range w.engine.Drivers {
		w.engine.Drivers[name] = completing{driver, w, map[string]string{}, &faults}
	}
	_, err := w.do(Request{
		Kind: KindImport, Trigger: TriggerManual, Added: &Secret{Name: "app", Type: "single"},
		Supplied: Material{"username": "app", "password": "made-by-hand"},
	})
	must(t, err)
	if s := w.role.Snapshot().Secrets["app"]; s == nil || s.Current == nil || s.Current.Material["salt"] != "" {
		t.Error("an imported value was given something that its target does not have")
	}
}
