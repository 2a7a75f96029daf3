package rotation

import (
	"encoding/json"
	"fmt"
	"math"
)

// Vault's storage takes no entry over 1 MiB, and a commit that it refused for that
// could never be made. So a state may grow to maxDescribed by what people write, with
// room for the values and records that are to come. New values are made only if the role
// stays below maxIntended with them and with the records of that and of what follows; so
// what follows, such as a rollback, stays below maxEnded. The rest is room for the texts of
// errors.
const (
	maxDescribed = 768 << 10
	maxIntended  = 896 << 10
	maxEnded     = 992 << 10
	// records is how many of them the outbox keeps at the end of an operation: its own, the
	// newest before it, and the newest of a request.
	records = 3
)

// size is how many bytes v takes in storage.
func size(v any) int {
	raw, err := json.Marshal(v)
	if err != nil {
		return 0 // which Save reports
	}
	return len(raw)
}

// need is how many bytes the state may come to take: with all secrets in an operation, a
// value in each of their stages, and records of operations on all of them.
func (s *State) need() int {
	full, op := s.Clone(), Operation{Secrets: s.Names()}
	rec := Record{Operation: op}
	for _, name := range op.Secrets {
		secret := full.Secrets[name]
		secret.fill()
		rec.Results = append(rec.Results, SecretResult{Secret: name, Type: secret.Type, From: s.Version, To: s.Version, Steps: usualSteps})
	}
	full.InFlight, full.Outbox = &op, nil
	return size(full) + records*size(rec)
}

// fill gives a secret its largest value in all stages, with all that is noted of each.
func (s *Secret) fill() {
	var largest *Value
	for _, v := range []*Value{s.Current, s.Previous, s.Pending, s.Next} {
		if v != nil && (largest == nil || size(v) > size(largest)) {
			largest = v
		}
	}
	if largest == nil {
		return
	}
	v := *largest
	v.Published, v.Supplied = v.Created, true
	previous := v
	previous.RetireTime, previous.Replaced, previous.LookTime = v.Created, v.Created, v.Created
	previous.DrainUntil, previous.DestroyTime = v.Created, v.Created
	previous.Prolonged = Prolonged{At: v.Created, By: math.MaxInt64, Final: true}
	s.Current, s.Previous, s.Pending = &v, &previous, &v
	if s.Next != nil {
		s.Next = &v
	}
}

// usualSteps are more than an operation takes on a secret, if all goes well.
var usualSteps = func() (steps []Step) {
	for _, name := range []string{"create", "create", "look", "probe", "set", "test"} {
		steps = append(steps, Step{Name: name, DurationMS: stepTimeout.Milliseconds(), OK: true})
	}
	return steps
}()

// Room returns how many bytes the state may come to take in storage, and how many it
// may by what people write.
func (s *State) Room() (most, limit int) { return s.need(), maxDescribed }

// checkDescribed refuses a state that what people wrote has made too large.
func (s *State) checkDescribed(role string, before *State) error {
	return tooLarge(role, s.need(), before.need(), maxDescribed)
}

// checkEnd refuses the operation of an intent whose end storage would not take. So it is
// rehearsed before any target is touched.
func (run *Run) checkEnd(s *State) error {
	end, err := run.rehearse(s)
	if err != nil {
		return err
	}
	before := run.role.Snapshot().State
	if run.op.Kind == KindRollback || run.pending == nil {
		return tooLarge(run.role.Name, size(end), size(before), maxEnded)
	}
	record := end.Outbox[len(end.Outbox)-1]
	end.Outbox = nil
	return tooLarge(run.role.Name, size(end)+records*size(record), size(before), maxIntended)
}

// rehearse returns the state with which the operation of an intent ends, if all goes well.
func (run *Run) rehearse(s *State) (*State, error) {
	end, rehearsal := s.Clone(), run.takeOver(&run.op)
	rehearsal.proven, rehearsal.next, rehearsal.issues = run.pending, run.next, append([]string(nil), run.issues...)
	for _, name := range run.op.Secrets {
		rehearsal.steps[name] = usualSteps
	}
	switch run.op.Kind {
	case KindRetire:
		return end, rehearsal.forget(end, run.op.Secrets, nil)
	case KindRepair:
		return end, rehearsal.endRepair(end, nil)
	}
	return end, rehearsal.promote(end)
}

// tooLarge refuses what takes more than the limit, unless it makes the state smaller.
func tooLarge(role string, most, before, limit int) error {
	if most <= limit || most <= before {
		return nil
	}
	return fmt.Errorf("%w: %s would come to take %d bytes of storage, and the limit is %d: spread its secrets over two roles, or make its texts, lists and values shorter; nothing was changed",
		ErrInvalid, role, most, limit)
}
