package rotation

import (
	"fmt"
	"strings"
	"time"
)

// The bounds of a rotation policy.
const (
	MinPeriod = time.Minute
	MaxPeriod = 100 * 365 * 24 * time.Hour
	minWindow = time.Hour
)

// Policy says when a role rotates and how long previous values stay valid.
type Policy struct {
	// Period between automatic rotations; zero when Schedule is set.
	Period time.Duration `json:"period,omitempty"`
	// Schedule is a cron expression of five fields in UTC.
	Schedule string `json:"schedule,omitempty"`
	// Window is how long after its scheduled time a rotation may still start;
	// zero means at any time. It goes with Schedule only.
	Window time.Duration `json:"window,omitempty"`
	// AutoRotate is false for roles that are rotated by hand only.
	AutoRotate bool `json:"auto_rotate"`
	// Overlap is how long a previous value stays valid after a cut-over.
	Overlap time.Duration `json:"overlap"`
	// OverlapLimit is how long it stays valid at most, while somebody needs it; zero means
	// the mount's, and if that has none, as long as Overlap.
	OverlapLimit time.Duration `json:"overlap_limit,omitempty"`
	// RefreshInterval is how often applications are told to read again.
	RefreshInterval time.Duration `json:"refresh_interval"`
	// MaxRetries is how many automatic attempts may fail in a row.
	MaxRetries int `json:"max_retries"`
	// RetryInterval is the pause after the first failure; it doubles with each.
	RetryInterval time.Duration `json:"retry_interval"`
}

// SetPeriod makes the role rotate by a period, and not by a schedule.
func (p *Policy) SetPeriod(period time.Duration) error {
	if period < MinPeriod || period > MaxPeriod {
		return Invalid("rotation_period", "is %s; it must be 1m or more, and at most a hundred years", Span(period))
	}
	p.Period, p.Schedule, p.Window = period, "", 0
	return nil
}

// SetSchedule makes the role rotate by a cron expression that parse reads, and not by a
// period.
func (p *Policy) SetSchedule(expression string, parse func(string) (Schedule, error)) error {
	p.Period, p.Schedule = 0, strings.Join(strings.Fields(expression), " ")
	_, err := parse(p.Schedule)
	return err
}

// SetWindow bounds how long after its scheduled time a rotation may start.
func (p *Policy) SetWindow(window time.Duration) error {
	switch {
	case p.Schedule == "":
		return Invalid("rotation_window", "rotation_window is invalid without rotation_schedule")
	case window < minWindow:
		return Invalid("rotation_window", "is %s; it must be %s or more", Span(window), Span(minWindow))
	}
	p.Window = window
	return nil
}

// CheckRetryInterval refuses a pause that is longer than what pauses grow to.
func CheckRetryInterval(interval time.Duration) error {
	if interval > maxRetryPause {
		return Invalid("retry_interval", "is %s; it must be at most %s", Span(interval), Span(maxRetryPause))
	}
	return nil
}

// Validate refuses times that do not agree with each other.
func (t ResolvedPolicy) Validate() error {
	if t.Overlap > t.Interval {
		return Invalid("overlap", "is %s; it must be at most the %s between two rotations, because a secret has only one previous value", Span(t.Overlap), Span(t.Interval))
	}
	if t.Overlap < 2*t.RefreshInterval {
		return Invalid("overlap", "is %s; it must be at least twice refresh_interval, which is %s, so that applications read a new value before the old one ends", Span(t.Overlap), Span(t.RefreshInterval))
	}
	switch {
	case t.OverlapLimit < t.Overlap:
		return Invalid("overlap_limit", "is %s; it must be at least the overlap, which is %s, or 0 for the default", Span(t.OverlapLimit), Span(t.Overlap))
	case t.OverlapLimit > t.Interval:
		return Invalid("overlap_limit", "is %s; it must be at most the %s between two rotations, because a secret has only one previous value", Span(t.OverlapLimit), Span(t.Interval))
	}
	return nil
}

// Seconds is how durations are answered: as whole seconds.
func Seconds(d time.Duration) int64 { return int64(d / time.Second) }

// Span is how people are told durations, and may write them: 90d, 36h, 1h30m, 45s.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if short, found := strings.CutSuffix(text, zero); found {
			text = short + zero[:1]
		}
	}
	return text
}
