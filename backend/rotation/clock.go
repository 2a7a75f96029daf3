package rotation

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A clock that was ahead, and was set right, leaves times in the state that postpone
// everything: the next rotation, the end of overlaps, attempts after a failure. What
// is further in the future than it can have been made to be is brought back, as if
// what made it had happened now.

const (
	// clockSlack is how far the clocks of two nodes may be apart before that matters.
	clockSlack = 5 * time.Minute
	// mostTaskPause is more than what follows a commit can be told to wait for its next
	// step.
	mostTaskPause = 24 * time.Hour
)

// bound is a stored time, how late it can be, and what it is set to if it is later.
type bound struct {
	what     string
	at       *time.Time
	most, to time.Time
}

// broken reports whether the time is later than that.
func (b bound) broken() bool { return !b.at.IsZero() && b.at.After(b.most.Add(clockSlack)) }

// bounds lists the stored times that are too late, and by which something would be too.
func (s *State) bounds(resolved ResolvedPolicy, now time.Time) []bound {
	now = now.UTC().Truncate(time.Second)
	all := []bound{
		{"last_rotation", &s.LastRotation, now, now},
		{"anchor", &s.Anchor, now, now},
		{"retry_time", &s.RetryAt, now.Add(maxRetryPause), now},
	}
	if latest := later(resolved.Next(now), now.Add(resolved.Period)); latest.After(now) && s.RotatesItself() {
		all = append(all, bound{"next_rotation", &s.NextRotation, latest, latest})
	}
	for _, name := range s.Names() {
		all = append(all, s.Secrets[name].bounds(now, resolved.Overlap)...)
	}
	if s.PostCommit != nil {
		for i := range s.PostCommit.Tasks {
			all = append(all, bound{s.PostCommit.Tasks[i].Name, &s.PostCommit.Tasks[i].Next, now.Add(mostTaskPause), now})
		}
	}
	var broken []bound
	for _, b := range all {
		if b.broken() {
			broken = append(broken, b)
		}
	}
	return broken
}

// bounds are those of one secret. The overlap of a value that was replaced in the
// future is as long as it was to be; others may have been given a longer one than there
// is now. One that was made longer in the future is as much longer, and no shorter than
// overlaps are.
func (s *Secret) bounds(now time.Time, overlap time.Duration) []bound {
	var all []bound
	for _, v := range []*Value{s.Current, s.Previous, s.Next, s.Pending} {
		if v != nil {
			all = append(all, bound{s.Name + ": created", &v.Created, now, now}, bound{s.Name + ": published", &v.Published, now, now})
		}
	}
	if v := s.Previous; v != nil {
		look := now.Add(drainPause)
		all = append(all, bound{s.Name + ": look_time", &v.LookTime, look, look})
	}
	if v := s.Previous; v != nil && later(v.Replaced, v.Prolonged.At).After(now.Add(clockSlack)) {
		ahead := later(v.Replaced, v.Prolonged.At).Sub(now)
		ends, drains, destroyed := v.RetireTime.Add(-ahead), v.DrainUntil.Add(-ahead), v.DestroyTime.Add(-ahead)
		if !v.Prolonged.At.IsZero() && v.undecided() {
			ends = later(ends, sooner(v.Replaced, now).Add(overlap))
		}
		all = append(all, bound{s.Name + ": retire_time", &v.RetireTime, later(ends, now), ends},
			bound{s.Name + ": drain_until", &v.DrainUntil, later(drains, now), drains},
			bound{s.Name + ": destroy_time", &v.DestroyTime, later(destroyed, now), destroyed},
			bound{s.Name + ": replaced", &v.Replaced, now, now}, bound{s.Name + ": prolonged", &v.Prolonged.At, now, now})
	}
	if u := s.Unresolved; u != nil {
		all = append(all, bound{s.Name + ": unresolved since", &u.Since, now, now}, bound{s.Name + ": retry_time", &u.RetryAt, now.Add(maxResolvePause), now})
	}
	return all
}

// Ahead lists the stored times that are later than they can have been made to be,
// because the clock was ahead; empty if all is well.
func (s *Snapshot) Ahead(now time.Time) []string {
	var names []string
	for _, b := range s.bounds(s.Resolved, now) {
		names = append(names, b.what)
	}
	return names
}

// Rewound says that stored times were brought back. It is kept until the next commit.
type Rewound struct {
	At    time.Time `json:"at"`
	Times []string  `json:"times"`
}

// String tells it to a person.
func (r *Rewound) String() string {
	return fmt.Sprintf("at %s these stored times were later than possible, because a clock was ahead or a default period was made shorter; the engine counts them from then: %s",
		r.At.Format(time.RFC3339), strings.Join(r.Times, ", "))
}

// rewind brings back the times that are too late, and records that.
func (run *Run) rewind(ctx context.Context) error {
	now := run.role.engine.Now()
	if s := run.role.Snapshot(); len(s.Ahead(now)) == 0 {
		return nil
	}
	return run.role.update(ctx, func(s *State) error {
		s.unshare()
		rec := Record{Operation: run.role.engine.NewOperation(KindConfigure, TriggerRecovery), Outcome: OutcomeCompleted}
		s.Rewound = &Rewound{At: run.now()}
		for _, b := range s.bounds(run.role.Snapshot().Resolved, now) {
			s.Rewound.Times = append(s.Rewound.Times, b.what)
			rec.Changes = append(rec.Changes, Difference{Field: b.what, From: b.at.Format(time.RFC3339), To: b.to.Format(time.RFC3339)})
			*b.at = b.to
		}
		rec.Issues = []string{s.Rewound.String()}
		return run.role.note(s, &rec)
	})
}

// unshare copies what a clone shares and has times in it.
func (s *State) unshare() {
	copied := func(v *Value) *Value {
		if v == nil {
			return nil
		}
		own := *v
		return &own
	}
	for _, secret := range s.Secrets {
		secret.Current, secret.Previous = copied(secret.Current), copied(secret.Previous)
		secret.Next, secret.Pending = copied(secret.Next), copied(secret.Pending)
		if secret.Unresolved != nil {
			left := *secret.Unresolved
			secret.Unresolved = &left
		}
	}
	if s.PostCommit != nil {
		following := *s.PostCommit
		following.Tasks = append([]Task(nil), s.PostCommit.Tasks...)
		s.PostCommit = &following
	}
}
