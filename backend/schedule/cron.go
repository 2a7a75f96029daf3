package schedule

import (
	"fmt"
	"strings"
	"sync"
	"time"

	vaultrotation "github.com/hashicorp/vault/sdk/rotation"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// maxSchedules is how many different ones are kept; there are rarely more.
const maxSchedules = 1024

// schedules are those that were read before: thousands of roles may have the same.
var schedules = struct {
	sync.Mutex
	read map[string]rotation.Schedule
}{read: map[string]rotation.Schedule{}}

// ParseCron reads a schedule as Vault's own engines do: five fields, in UTC.
func ParseCron(expression string) (rotation.Schedule, error) {
	schedules.Lock()
	defer schedules.Unlock()
	if known, ok := schedules.read[expression]; ok {
		return known, nil
	}
	cron, err := readCron(expression)
	if err != nil {
		return rotation.Schedule{}, err
	}
	if len(schedules.read) >= maxSchedules {
		clear(schedules.read)
	}
	schedules.read[expression] = rotation.NewSchedule(cron)
	return schedules.read[expression], nil
}

func readCron(expression string) (rotation.Cron, error) {
	if n := len(strings.Fields(expression)); n != 5 || strings.Contains(expression, "=") {
		return nil, invalid("%q has %d fields; give the five of cron: minute, hour, day of month, month, day of week, in UTC", expression, n)
	}
	schedule, err := vaultrotation.DefaultScheduler.Parse(expression)
	if err != nil {
		return nil, invalid("could not parse rotation_schedule %q: %v", expression, err)
	}
	if schedule.Next(time.Unix(0, 0).UTC()).IsZero() {
		return nil, invalid("%q never fires: there is no such date", expression)
	}
	return schedule, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: rotation_schedule: %s", rotation.ErrInvalid, fmt.Sprintf(format, args...))
}
