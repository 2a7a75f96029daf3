package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	python      bool // the service of bootstrap/apps/python, not cmd/smvm-api
	agent       bool // files by Vault Agent and a rolling restart, not by itself
	pooler      bool // PgBouncer between the service and PostgreSQL
	rotations   int
	rate        int  // requests per second
	faults      bool // kill the plugin and the active node on the way
	failover    bool // kill the primary on the way, and promote its replica
	flawless    bool // no request may fail but while PostgreSQL fails over, no login be refused
	builtin     bool // Vault's own static role, which rotates by itself
	retry       bool // the service reads again when a login is refused
}

// user is one of the run's own PostgreSQL users.
func (sc scenario) user(name string) string { return sc.database() + "_" + name }

func (sc scenario) database() string { return strings.ReplaceAll(sc.name, "-", "_") }

func scenarios(s settings) []scenario {
	few := max(1, s.rotations/8)
	all := []scenario{
		{name: "alternating", title: "alternating_users; the service reads creds", strategy: "alternating_users", instances: 2, rotations: s.rotations, faults: true, flawless: true},
		{name: "rolling", title: "alternating_users; Vault Agent restarts the two instances in turn", strategy: "alternating_users", instances: 2, agent: true, rotations: s.rotations, flawless: true},
		{name: "single", title: "single_user; the service reads creds", strategy: "single_user", instances: 2, rotations: few},
		{name: "retrying", title: "single_user; the service reads creds, and again when a login is refused", strategy: "single_user", instances: 2, rotations: few, retry: true},
		{name: "builtin", title: "for comparison: a static role of Vault's database engine; Vault Agent reloads the two instances", instances: 2, rotations: few, builtin: true},
		{name: "python", title: "Python; the connection names both servers", strategy: "alternating_users", instances: 2, python: true, rotations: s.rotations, faults: true, failover: true, flawless: true},
		{name: "python-unrotated", title: "the same, without rotations", strategy: "alternating_users", instances: 2, python: true, failover: true, flawless: true},
		{name: "python-pgbouncer", title: "Python behind PgBouncer", strategy: "alternating_users", instances: 2, python: true, pooler: true, rotations: few, failover: true, flawless: true},
		{name: "python-pgbouncer-unrotated", title: "the same, without rotations", strategy: "alternating_users", instances: 2, python: true, pooler: true, failover: true, flawless: true},
		{name: "go-pgbouncer", title: "Go behind PgBouncer", strategy: "alternating_users", instances: 2, pooler: true, rotations: few, failover: true, flawless: true, retry: true},
		{name: "go-pgbouncer-unrotated", title: "the same, without rotations", strategy: "alternating_users", instances: 2, pooler: true, failover: true, flawless: true, retry: true},
	}
	for i := range all {
		all[i].rate = s.rate
		if all[i].pooler {
			all[i].rate = max(1, s.rate/2)
		}
	}
	return all
}

// perform does one run: load, rotations, load.
func (w *world) perform(ctx context.Context, sc scenario) (_ *result, err error) {
	s, err := w.newSite(ctx, sc)
	defer func() { err = errors.Join(err, s.stop()) }()
	if err != nil {
		return nil, err
	}
	e, err := s.newEngine(ctx, sc)
	if err != nil {
		return nil, err
	}
	f, err := s.newFleet(ctx, sc, e)
	defer func() { err = errors.Join(err, f.stop()) }()
	if err != nil {
		return nil, err
	}
	creds, err := e.creds(ctx)
	if err != nil {
		return nil, err
	}
	g := newGenerator(f.instances)
	if err := g.serves(ctx, creds.version); err != nil {
		return nil, err
	}
	if err := g.follow(ctx, creds.key); err != nil {
		return nil, err
	}
	r := &result{scenario: sc}
	loading, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	g.began = time.Now()
	go func() { defer close(done); g.run(loading, sc.rate) }()
	err = r.rotate(ctx, s, e, g)
	stop()
	<-done
	r.samples = g.samples
	refused, refusedErr := s.refused(sc)
	r.refused = refused
	if err == nil && countFailed(r.samples) > 0 {
		err = f.keepLogs(sc)
	}
	return r, errors.Join(err, refusedErr)
}

// newEngine sets up what the scenario rotates with.
func (s *site) newEngine(ctx context.Context, sc scenario) (engine, error) {
	if sc.builtin {
		return s.newBuiltin(ctx, sc)
	}
	return s.newMount(ctx, sc)
}

// rotate does the rotations of a run, each when the instances use the one before. A run
// without any has only its failover.
func (r *result) rotate(ctx context.Context, s *site, e engine, g *generator) error {
	if err := pause(ctx, calm); err != nil {
		return err
	}
	if r.rotations == 0 {
		if err := <-r.strike(ctx, r.faultOf(s, 0), g); err != nil {
			return err
		}
	}
	for n := range r.rotations {
		if err := r.turn(ctx, s, e, g, n); err != nil {
			return err
		}
	}
	return pause(ctx, calm)
}

// turn does the nth operation.
func (r *result) turn(ctx context.Context, s *site, e engine, g *generator, n int) error {
	m := &mark{what: "rotate", number: n + 1, begin: time.Since(g.began)}
	if n%10 == 9 && !r.builtin {
		m.what = "rollback"
	}
	over := func() error { return nil }
	if f := r.faultOf(s, n); f != nil {
		done := r.strike(ctx, f, g)
		over = func() error { return <-done }
	}
	answered, err := e.operate(ctx, m.what)
	if err := errors.Join(err, over()); err != nil {
		return err
	}
	creds, err := e.creds(ctx)
	if err != nil {
		return err
	}
	if err := g.serves(ctx, creds.version); err != nil {
		return err
	}
	r.delays = append(r.delays, time.Since(answered))
	if err := g.sign(ctx, creds); err != nil {
		return err
	}
	if err := eventually(ctx, "a token", func(ctx context.Context) error { return g.follow(ctx, creds.key) }); err != nil {
		return err
	}
	if err := g.drain(ctx); err != nil {
		return err
	}
	m.end = time.Since(g.began)
	r.marks = append(r.marks, m)
	if m.number%10 == 0 {
		say("%s: %d of %d", r.name, m.number, r.rotations)
	}
	return pause(ctx, inUse)
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
	kid     string // of the key that signs tokens
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
		c.key, c.kid = fmt.Sprint(answer.Data["api_key"]), fmt.Sprint(answer.Data["jwt_kid"])
		c.version, err = strconv.Atoi(fmt.Sprint(answer.Data["version"]))
		return err
	})
	return c, err
}

// serves waits until all instances serve with a version or a later one.
func (g *generator) serves(ctx context.Context, version int) error {
	for _, i := range g.instances {
		if err := g.reaches(ctx, i, version); err != nil {
			return fmt.Errorf("%w; its log ends: %s", err, i.program.LogTail())
		}
		i.healthy.Store(true)
	}
	return nil
}

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

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
