package rotation

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"time"
)

// The defaults of a role's policy where neither the role nor the mount says
// otherwise. The period is the one of the manual procedure: ninety days.
const (
	DefaultPeriod          = 90 * 24 * time.Hour
	DefaultOverlap         = 24 * time.Hour
	DefaultRefreshInterval = 5 * time.Minute
	DefaultMaxRetries      = 8
	DefaultRetryInterval   = 10 * time.Second
)

const (
	// maxSpread and spreadFraction bound by how much the start of a rotation is
	// moved to keep roles with the same schedule apart.
	maxSpread      = 30 * time.Second
	spreadFraction = 20
	// maxRetryPause caps the pause between automatic attempts.
	maxRetryPause = time.Hour
	// overdueAfter is how late a rotation may start before it counts as overdue.
	overdueAfter = time.Minute
	// intervalSamples is how many firings of a schedule are looked at to find
	// its shortest interval; more than a year of a daily one.
	intervalSamples = 400
)

// Cron is a parsed schedule. Next returns the first firing after t in UTC, zero
// when there is none within the next years.
type Cron interface {
	Next(t time.Time) time.Time
}

// Schedule is a cron expression that was read, and what takes long to find out
// about it.
type Schedule struct {
	Cron Cron
	// Interval is the shortest time between two firings; zero if there are not two.
	Interval time.Duration
}

// NewSchedule finds out about a schedule; it takes about a millisecond.
func NewSchedule(cron Cron) Schedule { return Schedule{cron, shortestInterval(cron)} }

// Defaults are the mount's values for what a role's policy leaves open.
type Defaults struct {
	Period, Overlap, OverlapLimit, RefreshInterval, RetryInterval time.Duration
	MaxRetries                                                    int
}

// ResolvedPolicy are a policy with every default filled in and its schedule parsed.
type ResolvedPolicy struct {
	// Cron is nil for roles that rotate by period.
	Cron Cron
	// Period is zero for roles that rotate by schedule.
	Period time.Duration
	// Interval is the shortest time between two automatic rotations.
	Interval time.Duration
	Overlap  time.Duration
	// OverlapLimit is more than Overlap if overlaps go on while somebody needs them.
	OverlapLimit    time.Duration
	RefreshInterval time.Duration
	MaxRetries      int
	RetryInterval   time.Duration
	spread          time.Duration
}

// Resolve fills in what p leaves open. A default overlap is at most half the
// interval, a default refresh interval at most half the overlap; a default limit of the
// overlap is at least the overlap, and at most the interval. The key makes the spread: the
// same role always gets the same.
func (p Policy) Resolve(d Defaults, parse func(string) (Schedule, error), key string) (ResolvedPolicy, error) {
	t := ResolvedPolicy{Period: p.Period, Overlap: p.Overlap, RefreshInterval: p.RefreshInterval}
	if p.Schedule != "" {
		schedule, err := parse(p.Schedule)
		if err != nil {
			return ResolvedPolicy{}, err
		}
		t.Cron, t.Interval = schedule.Cron, cmp.Or(schedule.Interval, DefaultPeriod)
	} else {
		t.Period = cmp.Or(p.Period, d.Period, DefaultPeriod)
		t.Interval = t.Period
	}
	if t.Overlap == 0 {
		t.Overlap = min(cmp.Or(d.Overlap, DefaultOverlap), t.Interval/2)
	}
	t.OverlapLimit = cmp.Or(p.OverlapLimit, max(t.Overlap, min(d.OverlapLimit, t.Interval)))
	if t.RefreshInterval == 0 {
		t.RefreshInterval = min(cmp.Or(d.RefreshInterval, DefaultRefreshInterval), t.Overlap/2)
	}
	t.MaxRetries = cmp.Or(p.MaxRetries, d.MaxRetries, DefaultMaxRetries)
	t.RetryInterval = cmp.Or(p.RetryInterval, d.RetryInterval, DefaultRetryInterval)
	t.spread = spread(key, t.Interval)
	return t, nil
}

// shortestInterval looks at the coming firings; their distances repeat.
func shortestInterval(cron Cron) time.Duration {
	start := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	shortest := time.Duration(0)
	at := cron.Next(start)
	for range intervalSamples {
		following := cron.Next(at)
		if following.IsZero() || at.IsZero() {
			break
		}
		if gap := following.Sub(at); shortest == 0 || gap < shortest {
			shortest = gap
		}
		at = following
	}
	return shortest
}

// spread is how far this role's rotations are moved from the exact time, in
// whole seconds: up to a twentieth of the interval, at most 30 s.
func spread(key string, interval time.Duration) time.Duration {
	limit := min(interval/spreadFraction, maxSpread) / time.Second
	if limit <= 0 {
		return 0
	}
	return time.Duration(hash(key)%uint64(limit)) * time.Second //nolint:gosec // It is less than limit.
}

// hash is the 64-bit FNV-1a of key: stable over restarts, which is all that a
// spread or a jitter needs.
func hash(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	return h.Sum64()
}

// Next is the automatic rotation that follows a rotation at that time. A period
// is cut short by the spread, so that no value gets older than it; a schedule is
// followed by it, so that none rotates before its time. Zero means never.
func (t ResolvedPolicy) Next(anchor time.Time) time.Time {
	if t.Cron == nil {
		return anchor.Add(t.Period - t.spread)
	}
	at := t.Cron.Next(anchor.UTC())
	if at.IsZero() {
		return time.Time{}
	}
	return at.Add(t.spread)
}

// NextAfter is Next for a policy that was changed: counted from the anchor, but
// after now, because changing a policy never makes a rotation due. Zero means
// that none is planned: nothing was ever rotated, or the schedule never fires.
func (t ResolvedPolicy) NextAfter(anchor, now time.Time) time.Time {
	if anchor.IsZero() {
		return time.Time{}
	}
	next := t.Next(anchor)
	if next.After(now) {
		return next
	}
	if t.Cron != nil {
		return t.Next(now)
	}
	missed := now.Sub(next)/t.Period + 1
	return next.Add(missed * t.Period)
}

// IntervalAt is the time between the automatic rotations around anchor.
func (t ResolvedPolicy) IntervalAt(anchor time.Time) time.Duration {
	if t.Cron == nil {
		return t.Period
	}
	at := t.Cron.Next(anchor.UTC())
	return t.Cron.Next(at).Sub(at)
}

// Action is what a role does next by itself. The zero Action means nothing.
type Action struct {
	// Kind is KindRotate, KindRetire, KindPostCommit or KindRecover, which is also for what
	// is unresolved.
	Kind Kind
	At   time.Time
}

// KindRecover is the action that finishes what a crash or a fault left open.
const KindRecover Kind = "recover"

// NextAction says what the role does next by itself, and when.
func (s *Snapshot) NextAction(now time.Time) Action {
	notBefore := s.NotBefore
	if notBefore.After(now.Add(maxRetryPause + clockSlack)) {
		notBefore = now
	}
	if len(s.Ahead(now)) > 0 {
		return Action{KindRecover, later(now, notBefore)}
	}
	if s.open() {
		return Action{KindRecover, later(now, notBefore)}
	}
	next := Action{}
	for _, secret := range s.Secrets {
		if secret.Unresolved != nil {
			next = earlier(next, Action{KindRecover, secret.Unresolved.RetryAt})
		}
		if secret.Previous != nil {
			next = earlier(next, Action{KindRetire, s.retireAction(secret.Previous)})
		}
	}
	if s.PostCommit != nil && !s.NeedsAttention {
		next = earlier(next, Action{KindPostCommit, later(s.PostCommit.at(), s.RetryAt)})
	}
	if at := s.rotateAt(now); !at.IsZero() && s.PostCommit == nil {
		next = earlier(next, Action{KindRotate, at})
		if s.FailedRetirements > 0 && at.Equal(next.At) {
			next.Kind = KindRotate // a retirement that keeps failing holds up no rotation
		}
	}
	if next.Kind != "" {
		next.At = later(next.At, notBefore)
	}
	return next
}

// rotateAt is when the next automatic rotation may start: at its planned time,
// but not before a retry's pause has ended, and inside the window if the schedule
// has one. Zero when none will.
func (s *Snapshot) rotateAt(now time.Time) time.Time {
	if !s.RotatesItself() || s.NeedsAttention || s.NextRotation.IsZero() {
		return time.Time{}
	}
	possible := later(s.Planned(), s.RetryAt)
	window := s.Policy.Window
	latest := later(possible, now)
	if window == 0 || s.Resolved.Cron == nil || !latest.After(s.NextRotation.Add(window)) {
		return possible
	}
	next := s.Resolved.Next(latest.Add(-window))
	if next.IsZero() {
		return time.Time{}
	}
	return later(possible, next)
}

// overlapEnd is when the running overlap ends, and applications were asked to refuse its
// values, for which automatic rotations wait; zero if they wait for none. They do not wait
// because somebody needs a value.
func (s *Snapshot) overlapEnd() time.Time {
	end := time.Time{}
	for _, secret := range s.Secrets {
		switch previous := secret.Previous; {
		case previous == nil || secret.ShownOnce:
		case previous.waits():
			end = later(end, s.beforeNext(previous.RetireTime))
		default:
			end = later(end, previous.ends())
		}
	}
	return end
}

// WaitsUntil is the end of the overlap that the next automatic rotation waits for, if
// without it that would start more than a minute earlier; else zero.
func (s *Snapshot) WaitsUntil(now time.Time) time.Time {
	end := s.overlapEnd()
	if !s.RotatesItself() || s.NeedsAttention || s.NextRotation.IsZero() || !end.After(now) || end.Sub(s.published()) <= overdueAfter {
		return time.Time{}
	}
	return end
}

// Overdue reports whether an automatic rotation should have started by now. What waits
// for the end of an overlap is not late.
func (s *Snapshot) Overdue(now time.Time) bool {
	return s.RotatesItself() && !s.NextRotation.IsZero() && now.Sub(s.Planned()) > overdueAfter
}

// TTL is how long a reader may keep what it has read, in whole seconds: to the
// next rotation, at most the refresh interval, and little while one is under way.
func (s *Snapshot) TTL(now time.Time) time.Duration {
	ttl := s.Resolved.RefreshInterval
	if s.InFlight != nil && s.InFlight.Kind != KindRetire {
		return min(ttl, inFlightTTL)
	}
	if at := s.rotateAt(now); !at.IsZero() {
		ttl = min(ttl, at.Sub(now))
	}
	return max(ttl, 0).Truncate(time.Second)
}

// Fresh is how long what verifiers are shown of a secret may be kept, in whole
// seconds: as long as readers may keep its values, and never beyond the end of the
// previous one, which has to be forgotten by then; of one that is waited for, little beyond
// the next look, which may end it. While a rotation is late that is
// little, but not nothing: what it will make current is among what they are shown.
func (s *Snapshot) Fresh(secret *Secret, now time.Time) time.Duration {
	fresh := max(s.TTL(now), min(inFlightTTL, s.Resolved.RefreshInterval))
	if previous := secret.PreviousAt(now); previous != nil {
		fresh = min(fresh, previous.RetireTime.Sub(now))
		if look := previous.LookTime; !look.IsZero() {
			fresh = min(fresh, max(look.Sub(now), inFlightTTL))
		}
	}
	return max(fresh, 0).Truncate(time.Second)
}

// inFlightTTL is what readers are told while a rotation is under way.
const inFlightTTL = 2 * time.Second

// retryPause doubles with each failure, with a quarter of jitter, up to an hour.
func (t ResolvedPolicy) retryPause(key string, failures int) time.Duration {
	pause := min(t.RetryInterval, maxRetryPause)
	for i := 1; i < failures && pause < maxRetryPause; i++ {
		pause = min(2*pause, maxRetryPause)
	}
	jitter := hash(fmt.Sprint(key, failures)) % 256
	return pause - pause/4*time.Duration(jitter)/256
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sooner returns the sooner of two times.
func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// earlier returns the action that comes first; a zero Action never does.
func earlier(a, b Action) Action {
	if a.Kind == "" || b.At.Before(a.At) {
		return b
	}
	return a
}
