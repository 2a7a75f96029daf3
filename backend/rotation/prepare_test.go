package rotation

import (
	"maps"
	"testing"
)

// preparing notes what is prepared and not released yet, by secret.
type preparing struct {
	Driver
	now map[string]Material
}

func (p *preparing) Prepare(s Secret, v Material) (release func()) {
	p.now[s.Name] = v
	return func() { delete(p.now, s.Name) }
}

// TestDriversPrepareBeforeTheIntent also lets the intent fail, and a target.
func TestDriversPrepareBeforeTheIntent(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"", "save", "db.set"} {
		t.Run(failing, func(t *testing.T) {
			t.Parallel()
			w := made(t, "app", "db")
			now := map[string]Material{}
			for name, driver := range w.engine.Drivers {
				w.engine.Drivers[name] = &preparing{driver, now}
			}
			var prepared map[string]Material
			w.hooks = map[string]func(){"save": func() {
				if prepared == nil {
					prepared = maps.Clone(now)
				}
			}}
			if failing != "" {
				w.fail(failing, 0, fault{how: once})
			}
			rec, err := w.do(rotate())
			if (err != nil) != (failing != "") {
				t.Fatal(err)
			}
			if len(prepared) != 2 || len(now) != 0 {
				t.Errorf("%d values were prepared before the intent, %d are after %s", len(prepared), len(now), rec.Outcome)
			}
			for name, secret := range w.role.Snapshot().Secrets {
				if failing == "" && !secret.Current.Material.Equal(prepared[name]) {
					t.Errorf("another value of %s was prepared than became current", name)
				}
			}
		})
	}
}
