package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// strikeNodes makes one node fault after the other until ctx ends. Each is
// mended before the next: a cluster that lost two of its nodes does nothing.
func (s *soak) strikeNodes(ctx context.Context, r *rand.Rand) {
	var faults []column
	for _, col := range columns() {
		switch col.name {
		case "plugin killed", "node killed", "node paused", "paused for long", "step-down", "seal", "mount reloaded", "sibling reloaded":
			faults = append(faults, col)
		}
	}
	for ctx.Err() == nil {
		col, between, during := faults[r.IntN(len(faults))], upTo(r, 8*time.Second), upTo(r, 4*time.Second)
		pause(ctx, between)
		if ctx.Err() != nil {
			return
		}
		if err := s.strikeNode(s.t.Context(), col, during); err != nil {
			s.t.Errorf("the harness could not do %s: %v", col.name, err)
			return
		}
	}
}

func (s *soak) strikeNode(ctx context.Context, col column, during time.Duration) error {
	active, err := s.cluster.Active(ctx)
	if err != nil {
		return err
	}
	g := &group{lab: s.lab, column: col, active: active}
	s.note("%s: %s", col.name, active.ID)
	if err := col.strike(ctx, g); err != nil {
		return err
	}
	pause(ctx, during)
	if col.mend != nil {
		err = col.mend(ctx, g)
	}
	s.note("%s: mended", col.name)
	return err
}

// strikeTargets makes faults of PostgreSQL, of the connections to it, and of
// storage, until ctx ends.
func (s *soak) strikeTargets(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		a, kind, between, during := s.apps[r.IntN(len(s.apps))], r.IntN(8), upTo(r, 5*time.Second), upTo(r, 5*time.Second)
		pause(ctx, between)
		if ctx.Err() != nil {
			return
		}
		if err := s.strikeTarget(s.t.Context(), a, kind, during); err != nil {
			s.t.Errorf("the harness could not do fault %d: %v", kind, err)
			return
		}
	}
}

func (s *soak) strikeTarget(ctx context.Context, a *soaked, kind int, during time.Duration) error {
	switch kind {
	case 0:
		s.note("PostgreSQL killed")
		err := s.postgres.Kill()
		pause(ctx, during)
		return errors.Join(err, s.postgres.Start(ctx))
	case 1:
		s.note("PostgreSQL stalled for %s", during)
		err := s.postgres.Stall()
		pause(ctx, during)
		return errors.Join(err, s.postgres.Continue())
	case 2:
		s.note("%s cut off for %s", a.id, during)
		a.proxy.Cut()
		pause(ctx, during)
		return a.proxy.Heal()
	case 3:
		s.note("%s stalled for %s", a.id, 4*during)
		a.proxy.Stall()
		pause(ctx, 4*during)
		return a.proxy.Heal()
	case 4, 5:
		pattern := []string{sqlAlter, sqlCommit, sqlLogin}[int(during.Milliseconds())%3]
		s.note("%s: the answer to %q is cut", a.id, pattern)
		trigger := a.proxy.CutAfter(pattern)
		pause(ctx, during)
		trigger.Disarm()
		return nil
	}
	return s.refuseWrites(ctx, a, during)
}

// refuseWrites makes one kind of write fail for a while.
func (s *soak) refuseWrites(ctx context.Context, a *soaked, during time.Duration) error {
	kinds := []string{
		"role-$.rotate-intent.before", "role-$.rotate-intent.after", "role-$.rotate-commit.before", "role-$.rotate-commit.after",
		"$_db.set-fence.before", "$_db.set-fence.after", "role-$.append.before", "role-$.retire-end.after", "$_db.test.after",
	}
	point := a.expand(kinds[int(during.Milliseconds())%len(kinds)])
	s.note("%s fails for %s", point, during)
	err := s.points.fail(point)
	pause(ctx, during)
	return errors.Join(err, s.points.clear(point))
}

// note adds a fault to the list by which a failure or an outage can be understood.
func (s *soak) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, struck{time.Since(s.began), fmt.Sprintf(format, args...)})
}

func upTo(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d))).Round(time.Millisecond)
}
