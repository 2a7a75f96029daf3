package rotation

import (
	"context"
	"slices"
	"time"
)

// againWithin is how long after an operation it may be asked for again because its
// answer was lost: the vault command waits no longer than this for an answer.
const againWithin = time.Minute

// findLostAnswerLocked returns the record of the operation that the run would only repeat,
// nil if there is none. Clients ask again, under another id, when a process or node
// dies while it answers; to rotate twice then would take their values from readers
// who have not read again yet, and a second rollback would go back to what the
// first one left. So the newest operation is not done again when its answer was
// lost, it was the same, for the same caller, and only just now. That answers it: who
// asks once more means it.
func (run *Run) findLostAnswerLocked(ctx context.Context) *Record {
	if !run.op.repeatable() {
		return nil
	}
	s := run.role.Snapshot()
	rec, sequence := s.answer("")
	if rec == nil || rec.Outcome != OutcomeCompleted || rec.Version != s.Version || !run.op.repeats(rec.Operation) {
		return nil
	}
	for _, name := range rec.Secrets {
		if s.Secrets[name] == nil || s.Secrets[name].ShownOnce {
			return nil // whoever asks has to be given a value
		}
	}
	ended := rec.Started.Add(time.Duration(rec.DurationMS) * time.Millisecond)
	if run.role.engine.Now().Sub(ended) > againWithin || !run.role.lostLocked(ctx, rec, sequence) {
		return nil
	}
	run.role.answered = rec.ID
	rec.Issues = append(rec.Issues, "somebody asked for the same just before, and the process ended before it answered. This is that answer; nothing was done again")
	return rec
}

// lostLocked reports whether a process died before it answered who had asked for an
// operation: it died before the commit, or between that and the entry in the history,
// which the answer follows.
func (r *Role) lostLocked(ctx context.Context, rec *Record, sequence int) bool {
	switch {
	case rec.ID == r.answered:
		return false
	case rec.Trigger == TriggerRecovery:
		return true
	case sequence <= max(r.appended, r.Snapshot().History.Base):
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	appended, err := r.engine.Store.Entry(ctx, r.Key, sequence)
	return err == nil && appended == nil
}

// repeatable reports whether op need not be done if it has just been done. To revoke
// is never left undone.
func (op *Operation) repeatable() bool {
	return (op.Kind == KindRotate || op.Kind == KindRollback) && op.RequestID != "" && !op.RevokePrevious
}

// repeats reports whether op, which is repeatable, is what before was.
func (op *Operation) repeats(before Operation) bool {
	return op.Kind == before.Kind && !before.RevokePrevious && op.Actor == before.Actor && op.Reason == before.Reason &&
		slices.Equal(slices.Sorted(slices.Values(op.Secrets)), slices.Sorted(slices.Values(before.Secrets)))
}
