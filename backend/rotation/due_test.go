package rotation

import (
	"testing"
	"time"
)

func TestNextAction(t *testing.T) {
	t.Parallel()
	window := Policy{Schedule: "@every 24h", Window: time.Hour}
	soon, later := noon.Add(time.Minute), noon.Add(2*time.Hour)
	midnight := noon.Add(12 * time.Hour)
	for name, c := range map[string]struct {
		policy Policy
		change func(*Snapshot)
		now    time.Time
		want   Action
	}{
		"rotates at its time":        {Policy{}, nil, noon.Add(-day), Action{KindRotate, noon}},
		"and when that has passed":   {Policy{}, nil, later, Action{KindRotate, noon}},
		"a zero time is never due":   {Policy{}, func(s *Snapshot) { s.NextRotation = time.Time{} }, later, Action{}},
		"nor is a role by hand only": {Policy{}, func(s *Snapshot) { s.Policy.AutoRotate = false }, later, Action{}},
		"nor one without secrets":    {Policy{}, func(s *Snapshot) { s.Secrets = nil }, later, Action{}},
		"nor one that needs a person": {Policy{}, func(s *Snapshot) {
			s.NeedsAttention = true
		}, later, Action{}},
		"which still retires": {Policy{}, func(s *Snapshot) {
			s.NeedsAttention = true
			s.Secrets["jwt"].Previous = &Value{RetireTime: soon}
		}, later, Action{KindRetire, soon}},
		"and recovers": {Policy{}, func(s *Snapshot) {
			s.NeedsAttention, s.InFlight = true, &Operation{}
		}, later, Action{KindRecover, later}},
		"a pause is kept": {Policy{}, func(s *Snapshot) { s.RetryAt = soon }, noon, Action{KindRotate, soon}},
		"a recovery comes before all, and waits for no pause after a failure: readers may be without a value that works": {Policy{}, func(s *Snapshot) {
			s.InFlight, s.RetryAt = &Operation{}, soon
		}, noon, Action{KindRecover, noon}},
		"also one of a save in doubt":  {Policy{}, func(s *Snapshot) { s.Unsure = true }, noon, Action{KindRecover, noon}},
		"but not while storage is out": {Policy{}, func(s *Snapshot) { s.Unsure, s.NotBefore = true, soon }, noon, Action{KindRecover, soon}},
		"nor does a rotation":          {Policy{}, func(s *Snapshot) { s.NotBefore = soon }, noon, Action{KindRotate, soon}},
		"a pause alone is nothing to do": {Policy{}, func(s *Snapshot) {
			s.NotBefore, s.NextRotation = soon, time.Time{}
		}, noon, Action{}},
		"an overlap is waited for": {Policy{}, func(s *Snapshot) {
			s.Secrets["jwt"].Previous = &Value{RetireTime: later}
		}, noon, Action{KindRetire, later}},
		"in its window":                  {window, nil, noon.Add(time.Hour), Action{KindRotate, noon}},
		"after it, at the next":          {window, nil, later, Action{KindRotate, midnight}},
		"in the next, days later":        {window, nil, midnight.Add(3*day + time.Minute), Action{KindRotate, midnight.Add(3 * day)}},
		"after that one, at the next":    {window, nil, midnight.Add(3*day + later.Sub(noon)), Action{KindRotate, midnight.Add(4 * day)}},
		"a pause that leaves the window": {window, func(s *Snapshot) { s.RetryAt = later }, later.Add(-time.Minute), Action{KindRotate, midnight}},
		"a pause that ends in the next": {window, func(s *Snapshot) {
			s.RetryAt = midnight.Add(time.Minute)
		}, midnight.Add(-time.Minute), Action{KindRotate, midnight.Add(time.Minute)}},
		"a window of no further firing": {window, func(s *Snapshot) { s.Resolved.Cron = every(0) }, later, Action{}},
		"a window without a schedule":   {Policy{Window: time.Hour}, nil, later, Action{KindRotate, noon}},
	} {
		s := due(t, c.policy)
		if c.change != nil {
			c.change(s)
		}
		if got := s.NextAction(c.now); got.Kind != c.want.Kind || !got.At.Equal(c.want.At) {
			t.Errorf("%s: %s at %v, want %s at %v", name, got.Kind, got.At, c.want.Kind, c.want.At)
		}
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Snapshot)
		at     time.Time
		want   time.Duration
	}{
		"far from a rotation":   {nil, noon.Add(-day), 5 * time.Minute},
		"near one":              {nil, noon.Add(-90 * time.Second), 90 * time.Second},
		"whole seconds":         {nil, noon.Add(-1500 * time.Millisecond), time.Second},
		"when one is due":       {nil, noon, 0},
		"long after":            {nil, noon.Add(day), 0},
		"in flight":             {func(s *Snapshot) { s.InFlight = &Operation{Kind: KindRotate} }, noon.Add(-day), 2 * time.Second},
		"retiring":              {func(s *Snapshot) { s.InFlight = &Operation{Kind: KindRetire} }, noon.Add(-day), 5 * time.Minute},
		"by hand only":          {func(s *Snapshot) { s.Policy.AutoRotate = false }, noon, 5 * time.Minute},
		"failing":               {func(s *Snapshot) { s.RetryAt = noon.Add(time.Minute) }, noon, time.Minute},
		"a shorter refresh":     {func(s *Snapshot) { s.Resolved.RefreshInterval = time.Second }, noon.Add(-day), time.Second},
		"in flight, and hasty":  {func(s *Snapshot) { s.Resolved.RefreshInterval = time.Second; s.InFlight = &Operation{} }, noon, time.Second},
		"never a negative wait": {func(s *Snapshot) { s.Resolved.RefreshInterval = -time.Second }, noon.Add(-day), 0},
	} {
		s := due(t, Policy{})
		if c.change != nil {
			c.change(s)
		}
		if got := s.TTL(c.at); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	s := due(t, Policy{})
	if s.Overdue(noon.Add(overdueAfter)) || !s.Overdue(noon.Add(overdueAfter+time.Second)) {
		t.Error("a minute late")
	}
	s.Policy.AutoRotate = false
	if s.Overdue(noon.Add(day)) {
		t.Error("a role that is rotated by hand is overdue")
	}
	s = due(t, Policy{})
	s.NextRotation = time.Time{}
	if s.Overdue(noon) {
		t.Error("a zero time is overdue")
	}
}

// TestAWaitForAnOverlapIsNotLate has an overlap that ends after the planned time of the
// next rotation.
func TestAWaitForAnOverlapIsNotLate(t *testing.T) {
	t.Parallel()
	end := noon.Add(time.Hour)
	overlaps := func(change func(*Snapshot)) *Snapshot {
		s := due(t, Policy{})
		s.Secrets["jwt"].Previous = &Value{RetireTime: end}
		if change != nil {
			change(s)
		}
		return s
	}
	s := overlaps(nil)
	if !s.Planned().Equal(end) || s.Overdue(end.Add(overdueAfter)) || !s.Overdue(end.Add(overdueAfter+time.Second)) {
		t.Errorf("planned for %v; lateness does not count from the end of the overlap, %v", s.Planned(), end)
	}
	for name, c := range map[string]struct {
		change func(*Snapshot)
		now    time.Time
		waits  bool
	}{
		"before its time":       {nil, noon.Add(-time.Minute), true},
		"when that has passed":  {nil, end.Add(-1), true},
		"no more at the end":    {nil, end, false},
		"not if it is a minute": {func(s *Snapshot) { s.NextRotation = end.Add(-overdueAfter) }, noon, false},
		"but if it is more":     {func(s *Snapshot) { s.NextRotation = end.Add(-overdueAfter - 1) }, noon, true},
		"not if verifiers are waited for longer": {func(s *Snapshot) {
			s.Secrets["jwt"].Next = &Value{Published: end}
		}, noon, false},
		"not if nothing is planned":         {func(s *Snapshot) { s.NextRotation = time.Time{} }, noon, false},
		"not if it is rotated by hand":      {func(s *Snapshot) { s.Policy.AutoRotate = false }, noon, false},
		"not if it needs a person":          {func(s *Snapshot) { s.NeedsAttention = true }, noon, false},
		"not for what no schedule replaces": {func(s *Snapshot) { s.Secrets["jwt"].ShownOnce = true }, noon, false},
	} {
		until := overlaps(c.change).WaitsUntil(c.now)
		if until.IsZero() == c.waits || c.waits && !until.Equal(end) {
			t.Errorf("%s: waits until %v", name, until)
		}
	}
}

func TestPreviousIsOfferedUntilItsEnd(t *testing.T) {
	t.Parallel()
	s := Secret{}
	if s.PreviousAt(noon) != nil {
		t.Error("nothing is offered")
	}
	s.Previous = &Value{RetireTime: noon}
	if s.PreviousAt(noon.Add(-1)) == nil || s.PreviousAt(noon) != nil {
		t.Error("at the end of the overlap")
	}
}

// A role that fails again and again is tried less and less, then left to a
// person, and comes back with the first rotation by hand.
func TestAScheduledRotationThatFailsBacksOffUntilAPersonHelps(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	w.advance(91 * day)
	w.always["db.set"] = fault{how: refuses}
	start := w.now()
	if !w.idle(t, day, 100) {
		t.Fatal("it never stops")
	}
	s := w.role.Snapshot()
	if s.Failures != DefaultMaxRetries+1 || !s.NeedsAttention || s.LastError == "" || !s.Overdue(w.now()) {
		t.Errorf("%d failures, needs attention: %t", s.Failures, s.NeedsAttention)
	}
	if spent := w.now().Sub(start); spent < 30*time.Minute || spent > 4*time.Hour {
		t.Errorf("%d attempts in %v", s.Failures, spent)
	}
	w.heal()
	_, err := w.do(rotate())
	must(t, err)
	if s := w.role.Snapshot(); s.NeedsAttention || s.Failures != 0 || !s.RetryAt.IsZero() || s.LastError != "" || !s.NextRotation.After(w.now()) {
		t.Errorf("after a rotation by hand: %+v", s.State)
	}
	w.settled(t)
}

// A target that is away at the end of an overlap for longer than a rotation is tried
// stops no rotation, and what is left of the previous value is retired once it is back.
// unretired is a world in which an overlap could not be ended, more often than max_retries.
func unretired(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	rotated(day, "db")(t, w)
	w.always["db.retire"] = fault{how: refuses}
	w.advance(day)
	for range 2 * DefaultMaxRetries {
		w.idle(t, time.Hour, 1)
	}
	return w
}

func TestARetirementThatFailsStopsNoRotation(t *testing.T) {
	t.Parallel()
	w := unretired(t)
	defer w.stop()
	s := w.role.Snapshot()
	if s.Failures <= DefaultMaxRetries || s.NeedsAttention || s.LastError == "" || s.Secrets["db"].Previous == nil {
		t.Errorf("after %d failures, which need attention: %t, the previous value is %v", s.Failures, s.NeedsAttention, s.Secrets["db"].Previous)
	}
	w.heal()
	version := s.Version
	w.idle(t, 91*day, 100)
	if s := w.role.Snapshot(); s.Version == version || s.Failures != 0 || s.LastError != "" {
		t.Errorf("version %d after %d, %d failures, last error %q", s.Version, version, s.Failures, s.LastError)
	}
	w.settled(t)
}

// TestFailedRetirementsDoNotCount has a retirement fail more often than max_retries, and
// rotations after it: these are tried as often as if nothing had failed before.
func TestFailedRetirementsDoNotCount(t *testing.T) {
	t.Parallel()
	w := unretired(t)
	defer w.stop()
	retirements := w.role.Snapshot().Failures
	w.always["db.set"] = fault{how: refuses}
	w.advance(91 * day)
	for n := range DefaultMaxRetries {
		for tries := 0; tries < 5 && w.role.Snapshot().FailedRotations() == n; tries++ { // a retirement may be tried first
			w.idle(t, time.Hour, 1)
		}
		if s := w.role.Snapshot(); n == 0 && s.RetryAt.Sub(w.now()) > time.Minute {
			t.Errorf("after %d failed retirements, the first failed rotation is tried again in %s", retirements, s.RetryAt.Sub(w.now()))
		}
	}
	if s := w.role.Snapshot(); s.NeedsAttention || retirements <= DefaultMaxRetries {
		t.Errorf("after %d failed retirements and %d failures in all, automatic rotation has stopped: %t", retirements, s.Failures, s.NeedsAttention)
	}
	for range 3 * DefaultMaxRetries {
		w.idle(t, time.Hour, 1)
	}
	if s := w.role.Snapshot(); !s.NeedsAttention {
		t.Errorf("after %d failures in all, automatic rotation has not stopped", s.Failures)
	}
	w.heal()
	_, err := w.do(rotate())
	if s := w.role.Snapshot(); err != nil || s.NeedsAttention || s.Failures != 0 || s.FailedRetirements != 0 {
		t.Errorf("a rotation by hand ends with %v: %+v", err, s.State)
	}
	w.settled(t)
}

func TestWhatAPersonTriesDoesNotCount(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	w.always["db.set"] = fault{how: refuses}
	for range 20 {
		_, _ = w.do(rotate())
	}
	if s := w.role.Snapshot(); s.Failures != 0 || s.NeedsAttention || !s.RetryAt.IsZero() || s.LastError == "" {
		t.Errorf("%+v", s.State)
	}
}
