package rotation

import (
	"fmt"
	"testing"
)

// TestDeposedNode stops a node at every side effect of a rotation, lets another
// one take over and finish, and then lets the first go on: with a memory of how
// things were, no right to write any more, and a connection to the databases.
// Nothing that it still does may harm what readers get from the other one.
func TestDeposedNode(t *testing.T) {
	t.Parallel()
	base := made(t, "app", "db", "jwt")
	base.stop()
	probe := base.clone()
	probe.boot(t)
	_, err := probe.do(rotate())
	must(t, err)
	for at, name := range probe.calls {
		t.Run(fmt.Sprintf("%d %s", at, name), func(t *testing.T) {
			t.Parallel()
			deposed, successor := base.clone(), newWorld()
			deposed.boot(t)
			deposed.pauseAt(at, func() {
				*successor = *deposed.clone()
				successor.users = deposed.users // the databases are the same ones
				successor.boot(t)
				successor.idle(t, 0, 50)
				deposed.always["save"] = fault{how: forever}
				deposed.always["append"] = fault{how: forever}
			})
			_, _ = deposed.do(rotate())
			deposed.stop()
			successor.settled(t)
		})
	}
}

// pauseAt runs do in the place of a node that is paused before that side effect.
func (w *world) pauseAt(at int, do func()) {
	w.hooks = map[string]func(){}
	paused := false
	for _, name := range []string{"save", "append", "app.create", "app.set", "app.test", "db.create", "db.set", "db.test", "jwt.create", "jwt.set", "jwt.test"} {
		w.hooks[name] = func() {
			if !paused && len(w.calls) == at {
				paused = true
				w.pauses++
				do()
			}
		}
	}
}
