package rotation

import (
	"slices"
	"time"
)

// againWithin is how long after an operation it may be asked for again because its
// answer was lost: the vault command waits no longer than this for an answer.
const againWithin = time.Minute

// inherit notes which operations of requests an earlier process has begun: those
// in a state that is loaded. What became of their answers is not known.
func (r *Role) inherit(s *State) {
	if rec, _ := s.answer(""); rec != nil {
		r.inherited = append(r.inherited, rec.ID)
	}
	if s.InFlight != nil {
		r.inherited = append(r.inherited, s.InFlight.ID)
	}
}

// unansweredLocked returns the record of the operation that the run would only repeat,
// nil if there is none. Clients ask again, under another id, when a process or node
// dies while it answers; to rotate twice then would take their values from readers
// who have not read again yet, and a second rollback would go back to what the
// first one left. So the newest operation is not done again when an earlier
// process began it, it was the same, for the same caller, and only just now. That
// answers it: who asks once more means it.
func (run *Run) unansweredLocked() *Record {
	s := run.role.Snapshot()
	rec, _ := s.answer("")
	if rec == nil || rec.Outcome != OutcomeCompleted || rec.Version != s.Version || !run.op.repeats(rec.Operation) {
		return nil
	}
	for _, name := range rec.Secrets {
		if s.Secrets[name] == nil || s.Secrets[name].ShownOnce {
			return nil // whoever asks has to be given a value
		}
	}
	ended := rec.Started.Add(time.Duration(rec.DurationMS) * time.Millisecond)
	if !slices.Contains(run.role.inherited, rec.ID) || run.role.engine.Now().Sub(ended) > againWithin {
		return nil
	}
	run.role.inherited = nil
	rec.Issues = append(rec.Issues, "the same was asked for just before, and its answer was lost with the process that was to give it: this is that answer, and nothing was done again")
	return rec
}

// repeats reports whether op is what before was. To revoke is never left undone.
func (op *Operation) repeats(before Operation) bool {
	if op.Kind != KindRotate && op.Kind != KindRollback || op.RequestID == "" || op.RevokePrevious {
		return false
	}
	return op.Kind == before.Kind && !before.RevokePrevious && op.Actor == before.Actor && op.Reason == before.Reason &&
		slices.Equal(slices.Sorted(slices.Values(op.Secrets)), slices.Sorted(slices.Values(before.Secrets)))
}
