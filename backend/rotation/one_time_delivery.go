package rotation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Concealer is a Driver of values that can be kept in a form from which they can't
// be told. Secrets that are ShownOnce are of such a type.
type Concealer interface {
	Driver
	// Conceal returns what is kept of v.
	Conceal(v Material) Material
}

// handover passes values that are not kept from the run that makes them to the
// requests that wait for it. Such a value may become current only if somebody gets
// it. So the run decides right before the commit: either a request still waits, and
// stays until the commit has ended, or the run goes back.
type handover struct {
	mu sync.Mutex
	// waiting counts the requests that wait; relied says that they have to stay.
	waiting int
	relied  bool
	// shown are the values by secret, for whoever waits once committed is closed.
	shown     map[string]Material
	committed chan struct{}
}

// conceal takes from a new value what is not to be kept, for those who wait.
func (run *Run) conceal(secret Secret, v *Value) *Value {
	if v == nil || !secret.ShownOnce || !run.op.shows() {
		return v
	}
	concealer := run.driver(secret).(Concealer) // or nothing is kept: the run ends here
	if run.handover.shown == nil {
		run.handover.shown = map[string]Material{}
	}
	run.handover.shown[secret.Name] = v.Material
	kept := *v
	kept.Material = concealer.Conceal(v.Material)
	kept.Unreceived = true // until reveal
	return &kept
}

// shows reports whether an operation makes values that nobody knows yet.
func (op *Operation) shows() bool { return op.Kind == KindCreate || op.Kind == KindRotate }

// errUnreceived is why a run goes back whose values would be lost.
var errUnreceived = errors.New("the request that the new value was for has ended, and the engine does not store the value")

// receive makes sure that somebody is given what the run shows, if it shows
// anything.
func (run *Run) receive() error {
	h := &run.handover
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.shown) == 0 {
		return nil
	}
	if h.waiting == 0 {
		return errUnreceived
	}
	h.relied = true
	return nil
}

// reveal lets those who wait have what the run shows. Before that, it stores that they
// have it: a value that is Unreceived is one that nobody uses.
func (run *Run) reveal(ctx context.Context) error {
	if len(run.handover.shown) > 0 {
		_ = run.role.flush(ctx) // what can't be appended now travels in the state until it can
		if err := run.insist(ctx, run.markReceived); err != nil {
			return run.inDoubt(err, nowUnreceived)
		}
	}
	close(run.handover.committed)
	return nil
}

// markReceived is the change that stores that somebody is given what the run shows.
func (run *Run) markReceived(s *State) error {
	for name := range run.handover.shown {
		secret := s.Secrets[name]
		if secret == nil || s.currentVersion(name) != run.record.Version {
			return errSuperseded
		}
		current := *secret.Current
		current.Unreceived = false
		secret.Current = &current
	}
	return nil
}

// inUse is the previous value of a secret if its current one was given to nobody, so that
// who uses the secret uses that one; nil if they may use the current one.
func (s *Secret) inUse(now time.Time) *Value {
	previous := s.PreviousAt(now)
	if s.Current == nil || !s.Current.Unreceived || previous == nil || previous.Unreceived {
		return nil
	}
	return previous
}

// keepInUse has a rotation replace the value that is in use, and drop the one that nobody
// was given.
func (run *Run) keepInUse(secret *Secret, now time.Time) {
	v := secret.inUse(now)
	if v == nil || run.op.Kind != KindRotate {
		return
	}
	secret.Current = &Value{Material: v.Material, Version: v.Version, Created: v.Created, Supplied: v.Supplied}
}

// unreceived reports whether values of an interrupted operation are known to
// nobody: they died with the process that made them.
func (run *Run) unreceived() bool {
	for _, name := range run.op.Secrets {
		if run.op.shows() && run.secret(name).ShownOnce {
			return true
		}
	}
	return false
}

func (h *handover) join() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting++
}

// leave reports whether nobody relies on the one who leaves.
func (h *handover) leave() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.relied {
		return false
	}
	h.waiting--
	return true
}

// Wait waits for the end of the run, which it reports, as long as ctx lasts; longer
// only when the run is about to commit a value that this caller has to be given,
// and then until it has committed. It is for callers whose Request said Waits, and
// called once.
func (run *Run) Wait(ctx context.Context) (ended bool) {
	select {
	case <-run.done:
		return true
	case <-ctx.Done():
	}
	if !run.handover.leave() {
		select {
		case <-run.done:
		case <-run.handover.committed:
		}
	}
	select {
	case <-run.done:
		return true
	default:
		return false
	}
}

// Shown returns the values that the run has committed and that are not kept, by
// secret. Only callers that have waited are given any.
func (run *Run) Shown() map[string]Material {
	select {
	case <-run.handover.committed:
		return run.handover.shown
	default:
		return nil
	}
}

// RotatesItself reports whether the schedule has anything to rotate.
func (s *State) RotatesItself() bool {
	for _, secret := range s.Secrets {
		if !secret.ShownOnce {
			return s.Policy.AutoRotate
		}
	}
	return false
}

// covers reports whether these are all the secrets that a schedule rotates.
func (s *State) covers(names []string) bool {
	for name, secret := range s.Secrets {
		if !secret.ShownOnce && !slices.Contains(names, name) {
			return false
		}
	}
	return true
}
