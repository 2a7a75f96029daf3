package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// calm is how long the load goes on before the first rotation and after the last.
const calm = 10 * time.Second

// inUse is how long values are in use everywhere before the next rotation ends the
// overlap of those before: who was about to log in with these has done so by then.
const inUse = time.Second

// scenario is one run.
type scenario struct {
	name, title string
	strategy    string
	instances   int
	agent       bool // files by Vault Agent and a rolling restart, not by itself
	rotations   int
	faults      bool // kill the plugin and the active node on the way
	flawless    bool // no request may fail, no login be refused
	builtin     bool // Vault's own static role, which rotates by itself
	retry       bool // the service reads again when a login is refused
}

// user is one of the run's own PostgreSQL users.
func (sc scenario) user(name string) string { return sc.database() + "_" + name }

func (sc scenario) database() string { return strings.ReplaceAll(sc.name, "-", "_") }

func scenarios(s settings) []scenario {
	few := max(1, s.rotations/8)
	return []scenario{
		{name: "alternating", title: "alternating_users; the service reads creds", strategy: "alternating_users", instances: 2, rotations: s.rotations, faults: true, flawless: true},
		{name: "rolling", title: "alternating_users; Vault Agent restarts the two instances in turn", strategy: "alternating_users", instances: 2, agent: true, rotations: s.rotations, flawless: true},
		{name: "single", title: "single_user; the service reads creds", strategy: "single_user", instances: 2, rotations: few},
		{name: "retrying", title: "single_user; the service reads creds, and again when a login is refused", strategy: "single_user", instances: 2, rotations: few, retry: true},
		{name: "builtin", title: "for comparison: a static role of Vault's database engine; Vault Agent reloads the two instances", instances: 2, rotations: few, builtin: true},
	}
}

// perform does one run: load, rotations, load.
func (w *world) perform(ctx context.Context, sc scenario, rate int) (_ *result, err error) {
	e, err := w.newEngine(ctx, sc)
	if err != nil {
		return nil, err
	}
	f, err := w.newFleet(ctx, sc, e)
	defer func() { err = errors.Join(err, f.stop()) }()
	if err != nil {
		return nil, err
	}
	creds, err := e.creds(ctx)
	if err != nil {
		return nil, err
	}
	g := newGenerator(f.instances)
	for _, i := range f.instances {
		if err := g.reaches(ctx, i, creds.version); err != nil {
			return nil, fmt.Errorf("%w; its log ends: %s", err, i.program.LogTail())
		}
		i.healthy.Store(true)
	}
	if err := g.follow(ctx, creds.key); err != nil {
		return nil, err
	}
	r := &result{scenario: sc}
	loading, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	g.began = time.Now()
	go func() { defer close(done); g.run(loading, rate) }()
	err = r.rotate(ctx, w, e, g)
	stop()
	<-done
	r.samples = g.samples
	r.refused, r.refusals = w.refused(sc)
	return r, err
}

// newEngine sets up what the scenario rotates with.
func (w *world) newEngine(ctx context.Context, sc scenario) (engine, error) {
	if sc.builtin {
		return w.newBuiltin(ctx, sc)
	}
	return w.newMount(ctx, sc)
}

// rotate does the rotations of a run, each when the instances use the one before.
func (r *result) rotate(ctx context.Context, w *world, e engine, g *generator) error {
	if err := pause(ctx, calm); err != nil {
		return err
	}
	for n := range r.rotations {
		operation := "rotate"
		if n%10 == 9 && !r.builtin {
			operation = "rollback"
		}
		began := time.Since(g.began)
		fault := r.strike(ctx, w, g, n)
		answered, err := e.operate(ctx, operation)
		if fault != nil {
			err = errors.Join(err, <-fault)
		}
		if err != nil {
			return err
		}
		creds, err := e.creds(ctx)
		if err != nil {
			return err
		}
		for _, i := range g.instances {
			if err := g.reaches(ctx, i, creds.version); err != nil {
				return err
			}
		}
		r.delays = append(r.delays, time.Since(answered))
		if err := eventually(ctx, "a token", func(ctx context.Context) error { return g.follow(ctx, creds.key) }); err != nil {
			return err
		}
		r.marks = append(r.marks, mark{operation, began, time.Since(g.began)})
		if err := pause(ctx, inUse); err != nil {
			return err
		}
		if n%10 == 9 {
			say("%s: %d of %d", r.name, n+1, r.rotations)
		}
	}
	return pause(ctx, calm)
}

// operate implements engine: it rotates or rolls back, and returns when the answer
// came. When the answer is lost, because the plugin or a node died, it looks
// whether the operation was done before it asks again: a second rotation at once
// would end the overlap of the first.
func (m *mount) operate(ctx context.Context, operation string) (answered time.Time, err error) {
	before, err := m.creds(ctx)
	if err != nil {
		return time.Time{}, err
	}
	err = eventually(ctx, operation, func(ctx context.Context) error {
		if now, err := m.creds(ctx); err == nil && now.version > before.version {
			return nil
		}
		answer, err := m.client.Logical().WriteWithContext(ctx, m.path+"/"+operation, map[string]any{"wait": "30s", "reason": "load test"})
		answered = time.Now()
		if err == nil && answer.Data["status"] != "completed" {
			err = fmt.Errorf("it is %v", answer.Data["status"])
		}
		return err
	})
	if answered.IsZero() {
		answered = time.Now()
	}
	return answered, err
}

// credentials are what the clients of the service need to know.
type credentials struct {
	version int
	key     string
}

// creds implements engine. The clients get their key from here.
func (m *mount) creds(ctx context.Context) (c credentials, err error) {
	err = eventually(ctx, "credentials", func(ctx context.Context) error {
		answer, err := m.client.Logical().ReadWithContext(ctx, m.path+"/creds")
		if err == nil && answer == nil {
			err = errors.New("there are none")
		}
		if err != nil {
			return err
		}
		c.key = fmt.Sprint(answer.Data["api_key"])
		c.version, err = strconv.Atoi(fmt.Sprint(answer.Data["version"]))
		return err
	})
	return c, err
}

// reaches waits until an instance serves with a version or a later one.
func (g *generator) reaches(ctx context.Context, i *instance, version int) error {
	return eventually(ctx, fmt.Sprintf("version %d at %s", version, i.address), func(ctx context.Context) error {
		health, err := g.send(ctx, i, http.MethodGet, "/health", "", "")
		if err != nil {
			return err
		}
		used, err := strconv.Atoi(fmt.Sprint(health["version"]))
		if err == nil && used < version {
			err = fmt.Errorf("it uses version %d", used)
		}
		return err
	})
}

// refused counts the logins of the run's service that PostgreSQL refused.
func (w *world) refused(sc scenario) (count int, lines []string) {
	log, err := os.ReadFile(w.postgres.LogPath)
	if err != nil {
		return -1, []string{err.Error()}
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "authentication failed") && strings.Contains(line, "@"+sc.database()+" [local] ") {
			count, lines = count+1, append(lines, strings.TrimSpace(line))
		}
	}
	return count, lines
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
