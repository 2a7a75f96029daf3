package backend

import (
	"cmp"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/schedule"
)

// The bounds of a rotation policy.
const (
	minPeriod = time.Minute
	maxPeriod = 100 * 365 * 24 * time.Hour
	minWindow = time.Hour
	// maxRetryInterval is where the doubling of the pause ends anyway.
	maxRetryInterval = time.Hour
)

// takeSchedule takes over the fields that say when to rotate.
func takeSchedule(d *framework.FieldData, p *rotation.Policy) error {
	period, hasPeriod := d.GetOk("rotation_period")
	cron, hasSchedule := d.GetOk("rotation_schedule")
	switch {
	case hasPeriod && hasSchedule:
		return rotation.Invalid("rotation_period, rotation_schedule", "mutually exclusive fields rotation_period and rotation_schedule were both specified; only one of them can be provided")
	case hasPeriod:
		p.Period, p.Schedule, p.Window = time.Duration(period.(int))*time.Second, "", 0
		if p.Period < minPeriod || p.Period > maxPeriod {
			return rotation.Invalid("rotation_period", "is %d seconds; it must be 60 seconds or more, and at most a hundred years", period)
		}
	case hasSchedule:
		p.Period, p.Schedule = 0, strings.Join(strings.Fields(cron.(string)), " ")
		if _, err := schedule.ParseCron(p.Schedule); err != nil {
			return err
		}
	}
	return takeWindow(d, p)
}

func takeWindow(d *framework.FieldData, p *rotation.Policy) error {
	window, ok := d.GetOk("rotation_window")
	if !ok {
		return nil
	}
	if p.Schedule == "" {
		return rotation.Invalid("rotation_window", "rotation_window is invalid without rotation_schedule")
	}
	p.Window = time.Duration(window.(int)) * time.Second
	if p.Window < minWindow {
		return rotation.Invalid("rotation_window", "is %d seconds; rotation_window must be 3600 seconds or more", window)
	}
	return nil
}

// takePolicy takes over the fields of a role's policy and checks that they agree
// with each other and with the defaults of the mount.
func (b *backend) takePolicy(d *framework.FieldData, p *rotation.Policy, key string) error {
	if v, ok := d.GetOk("auto_rotate"); ok {
		p.AutoRotate = v.(bool)
	}
	if err := cmp.Or(
		takeSchedule(d, p),
		takeDuration(d, "overlap", &p.Overlap),
		takeDuration(d, "refresh_interval", &p.RefreshInterval),
		takeDuration(d, "retry_interval", &p.RetryInterval),
		takeInt(d, "max_retries", &p.MaxRetries, 1, 1000),
	); err != nil {
		return err
	}
	if err := checkRetryInterval(p.RetryInterval); err != nil {
		return err
	}
	terms, err := p.Resolve(b.rotationSettings().Defaults, schedule.ParseCron, key)
	if err != nil {
		return err
	}
	return checkTerms(terms)
}

func checkRetryInterval(interval time.Duration) error {
	if interval > maxRetryInterval {
		return rotation.Invalid("retry_interval", "is %d seconds; it must be at most %d", seconds(interval), seconds(maxRetryInterval))
	}
	return nil
}

func checkTerms(t rotation.Terms) error {
	if t.Overlap > t.Interval {
		return rotation.Invalid("overlap", "is %d seconds, longer than the %d seconds between two rotations: a value would have to stay valid after the one that follows it", seconds(t.Overlap), seconds(t.Interval))
	}
	if t.Overlap < 2*t.RefreshInterval {
		return rotation.Invalid("overlap", "is %d seconds; it must be at least twice refresh_interval, which is %d seconds, or applications would not see a new value before the old one ends", seconds(t.Overlap), seconds(t.RefreshInterval))
	}
	return nil
}

// scheduleFields declares the fields that say when to rotate.
func scheduleFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"rotation_period": field(framework.TypeDurationSecond, oneLine(`Time between two automatic rotations, at least 60 s.
			Rotations start up to a twentieth of it (at most 30 s) early, so that roles made together do not rotate together.`)),
		"rotation_schedule": field(framework.TypeString, oneLine(`When to rotate, as five fields of cron in UTC.
			Rotations start up to 30 s late, so that roles with the same schedule do not rotate together.`)),
		"rotation_window": field(framework.TypeDurationSecond, oneLine(`How long after a scheduled time a rotation may still
			start, at least an hour; when it was missed, the rotation waits for the next time. Only with rotation_schedule.`)),
	}
}

// scheduleData answers the fields that say when to rotate: the one that is set.
func scheduleData(p rotation.Policy, t rotation.Terms) map[string]any {
	if p.Schedule == "" {
		return map[string]any{"rotation_period": seconds(t.Period)}
	}
	data := map[string]any{"rotation_schedule": p.Schedule}
	if p.Window != 0 {
		data["rotation_window"] = seconds(p.Window)
	}
	return data
}
