package rotation

import (
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
		return Invalid("rotation_period", "is %d seconds; it must be 60 seconds or more, and at most a hundred years", Seconds(period))
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
		return Invalid("rotation_window", "is %d seconds; rotation_window must be 3600 seconds or more", Seconds(window))
	}
	p.Window = window
	return nil
}

// CheckRetryInterval refuses a pause that is longer than what pauses grow to.
func CheckRetryInterval(interval time.Duration) error {
	if interval > maxRetryPause {
		return Invalid("retry_interval", "is %d seconds; it must be at most %d", Seconds(interval), Seconds(maxRetryPause))
	}
	return nil
}

// Validate refuses times that do not agree with each other.
func (t ResolvedPolicy) Validate() error {
	if t.Overlap > t.Interval {
		return Invalid("overlap", "is %d seconds; it must be at most the %d seconds between two rotations, because a secret has only one previous value", Seconds(t.Overlap), Seconds(t.Interval))
	}
	if t.Overlap < 2*t.RefreshInterval {
		return Invalid("overlap", "is %d seconds; it must be at least twice refresh_interval, which is %d seconds, so that applications read a new value before the old one ends", Seconds(t.Overlap), Seconds(t.RefreshInterval))
	}
	return nil
}

// Seconds is how durations are told and answered: as whole seconds.
func Seconds(d time.Duration) int64 { return int64(d / time.Second) }
