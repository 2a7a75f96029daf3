package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// resolved is a policy with defaults and no spread, unless a key is given.
func resolved(t *testing.T, p Policy, key string) ResolvedPolicy {
	t.Helper()
	resolved, err := p.Resolve(Defaults{}, parseEvery, key)
	must(t, err)
	if key == "" {
		resolved.spread = 0
	}
	return resolved
}

// due is a role with a value whose next rotation is at noon.
func due(t *testing.T, p Policy) *Snapshot {
	t.Helper()
	p.AutoRotate = true
	return &Snapshot{
		State:    &State{Policy: p, Secrets: map[string]*Secret{"jwt": {Name: "jwt", Current: &Value{}}}, NextRotation: noon},
		Resolved: resolved(t, p, ""),
	}
}

// TestSpan tells durations as people write them.
func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"5s": 5 * time.Second, "2m": 2 * time.Minute, "1h30m": 90 * time.Minute, "1m10s": 70 * time.Second, "24h": 24 * time.Hour, "36h": 36 * time.Hour,
		"90d": 90 * 24 * time.Hour, "0s": 0, "1.5s": 1500 * time.Millisecond,
	} {
		if got := Span(d); got != want {
			t.Errorf("%v is told as %s, want %s", d, got, want)
		}
	}
}

func TestResolveFillsInWhatIsOpen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy   Policy
		defaults Defaults
		want     ResolvedPolicy
	}{
		"nothing set": {Policy{}, Defaults{}, ResolvedPolicy{
			Period: 90 * day, Interval: 90 * day, Overlap: day, OverlapLimit: day, RefreshInterval: 5 * time.Minute, MaxRetries: 8, RetryInterval: 10 * time.Second,
		}},
		"overlap at most half the period, refresh at most half the overlap": {Policy{Period: time.Minute}, Defaults{}, ResolvedPolicy{
			Period: time.Minute, Interval: time.Minute, Overlap: 30 * time.Second, OverlapLimit: 30 * time.Second, RefreshInterval: 15 * time.Second, MaxRetries: 8, RetryInterval: 10 * time.Second,
		}},
		"the mount's defaults": {Policy{}, Defaults{30 * day, 2 * day, 3 * day, time.Hour, time.Minute, 3}, ResolvedPolicy{
			Period: 30 * day, Interval: 30 * day, Overlap: 2 * day, OverlapLimit: 3 * day, RefreshInterval: time.Hour, MaxRetries: 3, RetryInterval: time.Minute,
		}},
		"the role's own": {Policy{Period: day, Overlap: day, RefreshInterval: time.Second, MaxRetries: 1, RetryInterval: time.Hour}, Defaults{30 * day, 2 * day, 3 * day, time.Hour, time.Minute, 3}, ResolvedPolicy{
			Period: day, Interval: day, Overlap: day, OverlapLimit: day, RefreshInterval: time.Second, MaxRetries: 1, RetryInterval: time.Hour,
		}},
		"the role's own limit": {Policy{OverlapLimit: 5 * day}, Defaults{30 * day, 2 * day, 3 * day, time.Hour, time.Minute, 3}, ResolvedPolicy{
			Period: 30 * day, Interval: 30 * day, Overlap: 2 * day, OverlapLimit: 5 * day, RefreshInterval: time.Hour, MaxRetries: 3, RetryInterval: time.Minute,
		}},
		"a limit of the mount that is shorter than the role's overlap": {Policy{Overlap: 4 * day}, Defaults{30 * day, 2 * day, 3 * day, time.Hour, time.Minute, 3}, ResolvedPolicy{
			Period: 30 * day, Interval: 30 * day, Overlap: 4 * day, OverlapLimit: 4 * day, RefreshInterval: time.Hour, MaxRetries: 3, RetryInterval: time.Minute,
		}},
		"a schedule": {Policy{Schedule: "@every 1h"}, Defaults{Period: 30 * day}, ResolvedPolicy{
			Cron: every(time.Hour), Interval: time.Hour, Overlap: 30 * time.Minute, OverlapLimit: 30 * time.Minute, RefreshInterval: 5 * time.Minute, MaxRetries: 8, RetryInterval: 10 * time.Second,
		}},
		"a schedule that never fires": {Policy{Schedule: "@every 0s"}, Defaults{}, ResolvedPolicy{
			Cron: every(0), Interval: 90 * day, Overlap: day, OverlapLimit: day, RefreshInterval: 5 * time.Minute, MaxRetries: 8, RetryInterval: 10 * time.Second,
		}},
	} {
		got, err := c.policy.Resolve(c.defaults, parseEvery, "")
		must(t, err)
		got.spread = 0
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if _, err := (Policy{Schedule: "@every week"}).Resolve(Defaults{}, parseEvery, ""); err == nil {
		t.Error("a bad schedule was taken")
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for i := range 200 {
		key := fmt.Sprint("role/", i)
		s := spread(key, 90*day)
		seen[s] = true
		if s < 0 || s >= maxSpread || s%time.Second != 0 || s != spread(key, 90*day) {
			t.Errorf("spread of %s is %v", key, s)
		}
		if s := spread(key, time.Minute); s < 0 || s >= time.Minute/spreadFraction {
			t.Errorf("spread of %s in a minute is %v", key, s)
		}
	}
	if len(seen) < 20 {
		t.Errorf("200 roles share %d starts", len(seen))
	}
	if spread("x", 0) != 0 || spread("x", -day) != 0 {
		t.Error("spread of no interval")
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	period := ResolvedPolicy{Period: time.Hour, spread: time.Minute}
	cron := ResolvedPolicy{Cron: every(time.Hour), spread: time.Minute}
	never := ResolvedPolicy{Cron: every(0), spread: time.Minute}
	at := noon.Add(10 * time.Minute)
	for name, c := range map[string]struct{ got, want time.Time }{
		"a period is cut short by the spread":        {period.Next(at), at.Add(59 * time.Minute)},
		"a schedule is followed by it":               {cron.Next(at), noon.Add(61 * time.Minute)},
		"a schedule that never fires":                {never.Next(at), time.Time{}},
		"a new policy counts from the last rotation": {period.NextAfter(at, at), at.Add(59 * time.Minute)},
		"but is never due at once":                   {period.NextAfter(at, at.Add(59*time.Minute)), at.Add(119 * time.Minute)},
		"nor after a long time":                      {period.NextAfter(at, at.Add(1000*time.Hour)), at.Add(1000*time.Hour + 59*time.Minute)},
		"nor is a new schedule":                      {cron.NextAfter(at, at.Add(5*time.Hour)), noon.Add(6*time.Hour + time.Minute)},
		"nor one that never fires":                   {never.NextAfter(at, at), time.Time{}},
		"nor a role that never rotated":              {period.NextAfter(time.Time{}, at), time.Time{}},
	} {
		if !c.got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	for now := at; now.Before(at.Add(5 * time.Hour)); now = now.Add(7 * time.Minute) {
		for _, resolved := range []ResolvedPolicy{period, cron} {
			if next := resolved.NextAfter(at, now); !next.After(now) {
				t.Errorf("at %v the next rotation is at %v", now, next)
			}
		}
	}
	if period.IntervalAt(at) != time.Hour || cron.IntervalAt(at) != time.Hour {
		t.Error("interval")
	}
}

func TestRetryPausesGrowUpToAnHour(t *testing.T) {
	t.Parallel()
	for _, first := range []time.Duration{time.Second, 10 * time.Second, time.Hour, 1000 * day} {
		resolved, last := ResolvedPolicy{RetryInterval: first}, time.Duration(0)
		for failures := range 5000 {
			pause := resolved.retryPause("role/default", failures)
			if pause <= 0 || pause > maxRetryPause || pause < min(first, maxRetryPause)*3/4 {
				t.Fatalf("pause %d from %v is %v", failures, first, pause)
			}
			if failures > 1 && last < maxRetryPause/2 && pause < last {
				t.Fatalf("pause %d from %v is %v, after %v", failures, first, pause, last)
			}
			last = pause
		}
	}
}

// every is a schedule that fires at every multiple of a duration.
type every time.Duration

func (e every) Next(t time.Time) time.Time {
	if e == 0 {
		return time.Time{}
	}
	return t.Truncate(time.Duration(e)).Add(time.Duration(e)).UTC()
}

func parseEvery(expression string) (Schedule, error) {
	d, err := time.ParseDuration(strings.TrimPrefix(expression, "@every "))
	if err != nil {
		return Schedule{}, err
	}
	return NewSchedule(every(d)), nil
}
