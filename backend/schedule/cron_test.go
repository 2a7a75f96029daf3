package schedule

import (
	"fmt"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// FuzzCron reads schedules. One that is taken fires, not more than once a minute,
// and the time of the next rotation follows from it.
func FuzzCron(f *testing.F) {
	for _, seed := range []string{
		"0 3 * * *", "*/5 0-6,12 1,15 * MON-FRI", "0 0 29 2 *", "0 0 31 4 *", "0 0 30 2 *", "@daily", "@every 1s", "TZ=UTC 0 3 * *",
		"* * * * * *", "60 * * * *", "1-0 * * * *", "*/0 * * * *", "0 0 ? * ?", "0 0 L * *", "\t0\n3 * * *", "０ 3 * * *", "4294967296 * * * *",
	} {
		f.Add(seed)
	}
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	f.Fuzz(func(t *testing.T, expression string) {
		schedule, err := ParseCron(expression)
		if err != nil {
			return
		}
		cron := schedule.Cron
		first := cron.Next(now)
		second := cron.Next(first)
		if !first.After(now) || second.Sub(first) < time.Minute || first.Second() != 0 || first.Location() != time.UTC {
			t.Errorf("%q fires at %s and %s", expression, first, second)
		}
		resolved, err := rotation.Policy{Schedule: expression}.Resolve(rotation.Defaults{}, ParseCron, "role/fuzz")
		if err != nil || resolved.Interval < time.Minute || resolved.Overlap <= 0 || resolved.RefreshInterval <= 0 {
			t.Errorf("%q is resolved to %+v, %v", expression, resolved, err)
		}
		if next := resolved.NextAfter(now.Add(-1000*time.Hour), now); !next.After(now) {
			t.Errorf("%q makes a rotation due at %s", expression, next)
		}
	})
}

// A schedule that thousands of roles have is read once, not for each of them.
func TestKnownSchedulesCostNothing(t *testing.T) {
	const expression = "17 3 * * *"
	if _, err := ParseCron(expression); err != nil {
		t.Fatal(err)
	}
	if allocations := testing.AllocsPerRun(100, func() { _, _ = ParseCron(expression) }); allocations > 0 {
		t.Errorf("reading it again allocates %v times", allocations)
	}
	schedules.Lock()
	for i := range maxSchedules {
		schedules.read[fmt.Sprintf("an old one %d", i)] = rotation.Schedule{}
	}
	schedules.Unlock()
	if _, err := ParseCron("18 3 * * *"); err != nil {
		t.Fatal(err)
	}
	schedules.Lock()
	defer schedules.Unlock()
	if kept := len(schedules.read); kept > maxSchedules {
		t.Errorf("%d are kept", kept)
	}
}
