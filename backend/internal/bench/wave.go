package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

const (
	// waveRounds is how often each wave comes: they take minutes.
	waveRounds = 3
	// builtinShare is how many of the built-in engine's roles there are for one of
	// ours: it does one at a time, so its rate is known from fewer.
	builtinShare = 4
	// spreadTime is by how much the engine moves apart roles that share a schedule: it
	// is paused that long, so that all of them are due at once.
	spreadTime = 31 * time.Second
	// setting is how long it takes at most to give all roles another schedule.
	setting = 20 * time.Second
	// never is a schedule that does not come about while this runs.
	never = "0 0 1 1 *"
)

// wave is roles that are due at the same moment.
type wave struct {
	w      *world
	name   string
	size   int
	path   string // of the roles
	paused bool   // while the roles become due
	// admins and connections are the most that PostgreSQL had of the engine at once,
	// of its administrator and of all its users.
	admins, connections int
}

// measureWaves compares many rotations that are due at once.
func measureWaves(ctx context.Context, w *world, s settings) ([]row, error) {
	say("%d roles due at once", s.wave)
	one, err := w.newWave(ctx, "one", s.wave, false)
	if err != nil {
		return nil, err
	}
	three, err := w.newWave(ctx, "three", s.wave, true)
	if err != nil {
		return nil, err
	}
	theirs, err := w.newBuiltinWave(ctx, s.wave/builtinShare)
	if err == nil {
		err = w.createUsers(ctx, "raw", rawSize)
	}
	if err != nil {
		return nil, err
	}
	found, err := w.compare(ctx, min(s.rounds, waveRounds),
		one.due("scheduled rotation with one secret"), three.due("scheduled rotation with three secrets"),
		theirs.due("scheduled rotation by the database engine"),
		w.raw(false), w.raw(true))
	if err != nil {
		return nil, err
	}
	secrets := found[1]
	secrets.values = slices.Clone(secrets.values)
	for i := range secrets.values {
		secrets.values[i] *= 3
	}
	return []row{
		atLeast(fmt.Sprintf("%d roles due at once, one database secret each, tested by a login", s.wave), "roles per second, compared with the database engine, which does not test passwords", 2, found[0], found[2]),
		atLeast("the same with three secrets each", "secrets per second, compared with the database engine", 5, secrets, found[2]),
		atLeast("the same with one secret each", "roles per second, compared with pgx alone: `ALTER ROLE` and a login, 8 at a time", 0.7, found[0], found[3]),
		atLeast("", "compared with pgx and an empty plugin that makes the four storage writes of a rotation", 0.95, found[0], found[4]),
		below("connections to PostgreSQL", fmt.Sprintf("maximum number of open connections while the %d roles rotate, including the logins that test passwords", s.wave), 9, float64(one.connections), fmt.Sprintf("(%d of them the administrator's)", one.admins)),
	}, nil
}

// newWave makes roles of our engine, each with a database user of its own.
func (w *world) newWave(ctx context.Context, name string, size int, all bool) (*wave, error) {
	if err := w.createUsers(ctx, name, size); err != nil {
		return nil, err
	}
	v := &wave{w: w, name: name, size: size, path: ours + "/roles/", paused: true}
	return v, w.fill(ctx, name, 0, size, all)
}

// fill makes roles from one number to another, several at a time. Every second one
// has a schedule instead of a period.
func (w *world) fill(ctx context.Context, name string, from, to int, all bool) error {
	return parallel(from, to, func(i int) error {
		role := fmt.Sprintf("%s%d", name, i)
		policy := map[string]any{"rotation_period": "720h"}
		if i%2 == 1 {
			policy = map[string]any{"rotation_schedule": never}
		}
		steps := []step{
			{ours + "/roles/" + role, policy},
			{ours + "/secrets/" + role + "/db", map[string]any{"type": "database", "connection": "main", "usernames": role}},
		}
		if all {
			steps = append(steps,
				step{ours + "/secrets/" + role + "/jwt", map[string]any{"type": "jwt", "algorithm": "ES256"}},
				step{ours + "/secrets/" + role + "/api", map[string]any{"type": "api_key"}})
		}
		for _, s := range steps {
			if err := w.post(ctx, s.path, s.data); err != nil {
				return err
			}
		}
		return nil
	})
}

// newBuiltinWave makes static roles of Vault's own engine.
func (w *world) newBuiltinWave(ctx context.Context, size int) (*wave, error) {
	const name = "static"
	if err := w.createUsers(ctx, name, size); err != nil {
		return nil, err
	}
	v := &wave{w: w, name: name, size: size, path: builtin + "/static-roles/"}
	return v, parallel(0, size, func(i int) error {
		role := fmt.Sprintf("%s%d", name, i)
		return w.post(ctx, v.path+role, map[string]any{"db_name": "main", "username": role, "rotation_schedule": never})
	})
}

// due is the figure of how many per second are rotated, from the first to the last,
// when all roles become due at the same time.
func (v *wave) due(name string) figure {
	return figure{name: name, prepare: v.begin, measure: v.await, finish: v.end}
}

// overlap is how long the engine keeps previous values: they are retired, which is
// work too, when the wave is over, and before the next one.
const overlap = 60 * time.Second

// begin has all roles become due at the next minute.
func (v *wave) begin(ctx context.Context) error {
	due := time.Now().UTC().Add(setting).Truncate(time.Minute).Add(time.Minute)
	if err := pauseFor(ctx, time.Until(due.Add(-setting))); err != nil {
		return err
	}
	if err := v.schedule(ctx, fmt.Sprintf("%d %d * * *", due.Minute(), due.Hour())); err != nil {
		return err
	}
	if err := v.remember(ctx); err != nil || !v.paused {
		return err
	}
	return v.hold(ctx, due)
}

// schedule gives all roles the same one.
func (v *wave) schedule(ctx context.Context, expression string) error {
	return parallel(0, v.size, func(i int) error {
		role := fmt.Sprintf("%s%d", v.name, i)
		data := map[string]any{"rotation_schedule": expression}
		if v.paused {
			data["overlap"], data["refresh_interval"] = overlap.String(), (overlap / 4).String()
		} else {
			data["db_name"], data["username"] = "main", role
		}
		return v.w.post(ctx, v.path+role, data)
	})
}

// hold pauses the plugin while its roles become due.
func (v *wave) hold(ctx context.Context, due time.Time) error {
	if err := pauseFor(ctx, time.Until(due.Add(-time.Second))); err != nil {
		return err
	}
	if err := v.w.vault.PausePlugins(); err != nil {
		return err
	}
	return errors.Join(pauseFor(ctx, time.Until(due.Add(spreadTime))), v.w.vault.ContinuePlugins())
}

// end leaves the roles as they were before, with no overlap running: nothing rotates
// by itself while one does.
func (v *wave) end(ctx context.Context) error {
	if err := v.schedule(ctx, never); err != nil || !v.paused {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, waveTimeout)
	defer cancel()
	for i := range v.size {
		path := fmt.Sprintf("%s/status/%s%d", ours, v.name, i)
		err := testenv.Eventually(ctx, "the end of the overlaps", func(ctx context.Context) error {
			status, err := v.w.data(ctx, http.MethodGet, path, nil)
			if err == nil && strings.Contains(fmt.Sprint(status["secrets"]), "retire_time:") {
				err = fmt.Errorf("%s has a previous value", path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// remember notes the passwords as they are.
func (v *wave) remember(ctx context.Context) error {
	const note = "DROP TABLE IF EXISTS bench_before; CREATE TEMP TABLE bench_before AS SELECT oid, rolpassword FROM pg_authid WHERE rolname ~ '^%s[0-9]+$'"
	if _, err := v.w.admin.Exec(ctx, fmt.Sprintf(note, v.name)); err != nil {
		return fmt.Errorf("note passwords: %w", err)
	}
	return nil
}

// look counts the users whose password is another one than before, and connections.
const look = `SELECT (SELECT count(*) FROM pg_authid a JOIN bench_before b ON a.oid = b.oid WHERE a.rolpassword <> b.rolpassword),
	count(*) FILTER (WHERE usename = $1), count(*) FROM pg_stat_activity WHERE application_name = 'smvm'`

// waveTimeout bounds one wave.
const waveTimeout = 5 * time.Minute

// await waits until all have changed, and returns how many per second did.
func (v *wave) await(ctx context.Context) (perSecond float64, times int, err error) {
	ctx, cancel := context.WithTimeout(ctx, waveTimeout)
	defer cancel()
	var began time.Time
	ahead := 0
	err = testenv.Eventually(ctx, "wave "+v.name, func(ctx context.Context) error {
		var changed, admins, connections int
		if err := v.w.admin.QueryRow(ctx, look, ourAdmin).Scan(&changed, &admins, &connections); err != nil {
			return err
		}
		v.admins, v.connections = max(v.admins, admins), max(v.connections, connections)
		if changed > 0 && began.IsZero() {
			began, ahead = time.Now(), changed
		}
		if changed < v.size {
			return fmt.Errorf("%d of %d have changed", changed, v.size)
		}
		return nil
	})
	return float64(v.size-ahead) / time.Since(began).Seconds(), v.size, err
}

// pauseFor does nothing for a while.
func pauseFor(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
