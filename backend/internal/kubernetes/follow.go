package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// patience is what a busy machine may add to anything that is waited for.
const patience = 2 * time.Minute

// journey is what an operator has gone through so far.
type journey struct {
	*cluster
	// before is what it had done before the first rotation.
	before counts
	logins int
	// lags are how long after each rotation a Secret had it.
	lags map[string][]time.Duration
}

// counts are how often each Secret, and what is wanted of the Deployment, has changed.
type counts struct {
	writes   map[string]int
	restarts int
}

// follow has an operator follow rotations of the role default, and returns what was
// measured of each of its Secrets.
func (w *world) follow(ctx context.Context, o operator) (found []result, err error) {
	say("%s: %d rotations", o.title, o.rotations)
	if err := w.plan(ctx, o, "24h"); err != nil {
		return nil, err
	}
	c, err := w.newCluster(ctx, o)
	defer func() { err = errors.Join(err, c.stop(context.WithoutCancel(ctx))) }()
	if err != nil {
		return nil, err
	}
	j := &journey{cluster: c, lags: map[string][]time.Duration{}}
	if err := j.travel(ctx); err != nil {
		return nil, fmt.Errorf("%w; its log ends: %s", err, c.program.LogTail())
	}
	return j.results()
}

// plan sets the policy of the role default.
func (w *world) plan(ctx context.Context, o operator, period string) error {
	policy := maps.Clone(o.policy)
	policy["rotation_period"] = period
	return w.write(ctx, "roles/default", policy)
}

// travel goes from the first Secrets to a restart of the operator.
func (j *journey) travel(ctx context.Context) error {
	logins, err := j.world.audit.count("auth/kubernetes/login")
	if err != nil {
		return err
	}
	if err := j.begin(ctx); err != nil {
		return err
	}
	for n := range j.operator.rotations {
		if err := j.rotation(ctx, n); err != nil {
			return fmt.Errorf("rotation %d: %w", n+1, err)
		}
	}
	if j.logins, err = j.world.audit.count("auth/kubernetes/login"); err != nil {
		return err
	}
	j.logins -= logins
	if tokens, err := j.world.tokens(ctx); err != nil || tokens != j.operator.tokens {
		return fmt.Errorf("after %d logins, %d tokens are left, want %d: %w", j.logins, tokens, j.operator.tokens, err)
	}
	return j.again(ctx)
}

// begin applies the manifest, and waits for Secrets without previous values.
func (j *journey) begin(ctx context.Context) error {
	if err := j.apply(ctx); err != nil {
		return err
	}
	creds, err := j.settled(ctx)
	if err != nil {
		return err
	}
	for _, s := range j.operator.secrets {
		if _, err := j.secrets[s.name].await(ctx, s.content(creds), j.operator.interval+patience); err != nil {
			return err
		}
	}
	if err := j.polls(ctx); err != nil {
		return err
	}
	j.before, err = j.counts()
	return err
}

// rotation rotates, the last time on schedule, and follows the Secrets to the end of
// the overlap and beyond.
func (j *journey) rotation(ctx context.Context, n int) error {
	began, creds, err := j.rotate(ctx, n == j.operator.rotations-1)
	if err != nil {
		return err
	}
	say("%s: rotation %d, version %v", j.operator.title, n+1, creds["version"])
	for _, s := range j.operator.secrets {
		if err := j.arrives(ctx, s, creds, began); err != nil {
			return err
		}
	}
	if creds, err = j.settled(ctx); err != nil {
		return err
	}
	for _, s := range j.operator.secrets {
		if _, err := j.secrets[s.name].await(ctx, s.content(creds), j.operator.interval+patience); err != nil {
			return fmt.Errorf("after the overlap: %w", err)
		}
	}
	if err := j.polls(ctx); err != nil {
		return err
	}
	return j.compare(n + 1)
}

// rotate returns when it has, and what creds answers then: with previous values.
func (j *journey) rotate(ctx context.Context, scheduled bool) (time.Time, map[string]any, error) {
	if scheduled {
		return j.onSchedule(ctx)
	}
	began := time.Now()
	if err := j.world.write(ctx, "rotate/default", nil); err != nil {
		return began, nil, err
	}
	creds, err := j.world.creds(ctx)
	if err == nil && creds["jwt_previous_kid"] == nil {
		err = errors.New("creds has no previous values after a rotation")
	}
	return began, creds, err
}

// onSchedule has the role rotate by itself, once.
func (j *journey) onSchedule(ctx context.Context) (began time.Time, creds map[string]any, err error) {
	before, err := j.world.creds(ctx)
	if err != nil {
		return began, nil, err
	}
	if err := j.world.plan(ctx, j.operator, j.operator.period.String()); err != nil {
		return began, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, j.operator.period+patience)
	defer cancel()
	err = testenv.Eventually(ctx, "the scheduled rotation", func(ctx context.Context) error {
		creds, err = j.world.creds(ctx)
		if err == nil && creds["version"] == before["version"] {
			err = errors.New("it has not begun")
		}
		return err
	})
	if err != nil {
		return began, nil, err
	}
	if began, err = time.Parse(time.RFC3339, creds["last_vault_rotation"].(string)); err != nil {
		return began, nil, fmt.Errorf("read creds: %w", err)
	}
	return began, creds, j.world.plan(ctx, j.operator, "24h")
}

// arrives waits until a Secret has what creds answers after a rotation, and checks that
// the Deployment was restarted after that, where it has to be.
func (j *journey) arrives(ctx context.Context, s secret, creds map[string]any, began time.Time) error {
	found, err := j.secrets[s.name].await(ctx, s.content(creds), j.operator.interval+patience)
	if err != nil {
		return err
	}
	lag := found.at.Sub(began)
	if lag > j.operator.interval+tolerance {
		return fmt.Errorf("%s had the rotation after %s, want at most %s", s.name, lag, j.operator.interval+tolerance)
	}
	j.lags[s.name] = append(j.lags[s.name], lag)
	if s.name != "smvm-api" || j.operator.restarts == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return testenv.Eventually(ctx, "the restart", func(context.Context) error {
		now, _, err := j.deployment.last()
		if err == nil && now.revision < found.revision {
			err = errors.New("the Deployment has not changed since the Secret has")
		}
		return err
	})
}

// settled waits for the end of an overlap, and returns what creds answers then.
func (j *journey) settled(ctx context.Context) (creds map[string]any, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+patience)
	defer cancel()
	err = testenv.Eventually(ctx, "the end of the overlap", func(ctx context.Context) error {
		creds, err = j.world.creds(ctx)
		if err == nil && (creds["jwt_previous_kid"] != nil || creds["api_previous_key"] != nil) {
			err = errors.New("creds has previous values")
		}
		return err
	})
	return creds, err
}

// polls waits until the operator has read creds twice for each of its Secrets.
func (j *journey) polls(ctx context.Context) error {
	const path = "smvm/creds/default"
	before, err := j.world.audit.count(path)
	if err != nil {
		return err
	}
	want := before + 2*len(j.operator.secrets)
	ctx, cancel := context.WithTimeout(ctx, 2*(j.operator.interval+tolerance)+patience)
	defer cancel()
	return testenv.Eventually(ctx, "reads of the operator", func(context.Context) error {
		now, err := j.world.audit.count(path)
		if err == nil && now < want {
			err = fmt.Errorf("it has read %d times, want %d", now, want)
		}
		return err
	})
}

// counts are those of now.
func (j *journey) counts() (counts, error) {
	now, _, err := j.deployment.last()
	c := counts{restarts: now.generation, writes: map[string]int{}}
	for name, w := range j.secrets {
		_, states, ended := w.last()
		c.writes[name], err = states, errors.Join(err, ended)
	}
	return c, err
}

// compare checks the counts after so many rotations.
func (j *journey) compare(rotations int) error {
	now, err := j.counts()
	if err != nil {
		return err
	}
	for _, s := range j.operator.secrets {
		if got, want := now.writes[s.name]-j.before.writes[s.name], rotations*s.writes; got != want {
			err = errors.Join(err, fmt.Errorf("%s has changed %d times, want %d", s.name, got, want))
		}
	}
	if got, want := now.restarts-j.before.restarts, rotations*j.operator.restarts; got != want {
		err = errors.Join(err, fmt.Errorf("the Deployment was restarted %d times, want %d", got, want))
	}
	return err
}

// again restarts the operator, of which the Secrets and the Deployment notice nothing.
func (j *journey) again(ctx context.Context) error {
	if err := j.program.Stop(); err != nil {
		return err
	}
	if err := j.operate(ctx); err != nil {
		return err
	}
	if err := j.polls(ctx); err != nil {
		return err
	}
	if err := j.compare(j.operator.rotations); err != nil {
		return fmt.Errorf("after a restart of the operator: %w", err)
	}
	return nil
}
