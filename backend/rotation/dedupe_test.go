package rotation

import (
	"strings"
	"testing"
	"time"
)

// A client whose answer was lost with a process asks again, under another id. What
// it asked for is finished, and not done twice: who has read the values from before
// may go on with them.
func TestAnOperationWhoseAnswerWasLostIsNotDoneAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		call   string
		pass   int
		landed bool
	}{
		"died before the commit":       {"save", 3, false},
		"died after the commit":        {"save", 3, true},
		"died while a target answered": {"app.set", 0, true},
	} {
		for _, recovered := range []bool{false, true} {
			for _, kind := range []Kind{KindRotate, KindRollback} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					w := made(t, "app", "db")
					if kind == KindRollback {
						_, err := w.do(asked("before", KindRotate))
						must(t, err)
					}
					before := w.role.Snapshot()
					w.fail(c.call, c.pass, fault{how: death, landed: c.landed})
					_, _ = w.do(asked("first", kind))
					if !w.isDead() {
						t.Fatalf("still alive after %v", w.calls)
					}
					w.boot(t)
					if recovered {
						w.idle(t, time.Second, 5)
					}
					w.advance(5 * time.Second)
					rec, err := w.do(asked("second", kind))
					must(t, err)
					previous := w.role.Snapshot().Secrets["app"].Previous
					if rec.Version != before.Version+1 || previous.Material["password"] != before.Secrets["app"].Current.Material["password"] {
						t.Errorf("version %d, after %d: %v", rec.Version, before.Version, rec.Issues)
					}
					rec, err = w.do(asked("third", kind))
					must(t, err)
					if said := strings.Join(rec.Issues, " "); rec.Version != before.Version+2 || strings.Contains(said, "ended before it answered") {
						t.Errorf("asked once more, it is version %d: %v", rec.Version, rec.Issues)
					}
					w.settled(t)
				})
			}
		}
	}
}

// asked is a request of somebody for an operation.
func asked(id string, kind Kind) Request {
	return Request{Kind: kind, Trigger: TriggerManual, RequestID: id, Actor: Actor{DisplayName: "operator"}, Reason: "planned"}
}

// What is another request, or comes later, or has to act, is done.
func TestWhatIsNotTheSameIsDoneAgain(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world, req *Request){
		"later":         func(w *world, _ *Request) { w.advance(2 * againWithin) },
		"by another":    func(_ *world, req *Request) { req.Actor.DisplayName = "another" },
		"for a reason":  func(_ *world, req *Request) { req.Reason = "leaked" },
		"of one secret": func(_ *world, req *Request) { req.Secrets = []string{"db"} },
		"to revoke":     func(_ *world, req *Request) { req.RevokePrevious = true },
		"other kind":    func(_ *world, req *Request) { req.Kind = KindRollback },
		"after an answer": func(w *world, _ *Request) {
			must(t, w.role.flush(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := made(t, "app", "db")
			w.fail("append", 0, fault{how: death})
			_, _ = w.do(asked("first", KindRotate))
			w.boot(t)
			before, req := w.role.Snapshot().Version, asked("second", KindRotate)
			change(w, &req)
			rec, err := w.do(req)
			must(t, err)
			if rec.Version != before+1 {
				t.Errorf("version %d after %d: %v", rec.Version, before, rec.Issues)
			}
			w.settled(t)
		})
	}
}
