package rotation

import (
	"fmt"
	"testing"
	"time"
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

// TestATransactionLeftOpen stops a node between the fence and the end of an undo,
// when the new value still works. The other one waits for that transaction when it
// changes the same user, and only then: else it ends after everything is decided.
func TestATransactionLeftOpen(t *testing.T) {
	t.Parallel()
	w := made(t, "db", "jwt")
	w.fail("db.test", 0, fault{how: refused})
	w.fail("db.undo", 0, fault{how: death})
	_, _ = w.do(rotate())
	if !w.isDead() {
		t.Fatalf("still alive after %v", w.calls)
	}
	ended := false
	end := func() {
		if !ended {
			ended, w.users["app_b"] = true, ""
		}
	}
	w.hooks = map[string]func(){"db.set": end, "db.undo": end}
	w.boot(t)
	w.idle(t, time.Hour, 10)
	end()
	w.settled(t)
}
