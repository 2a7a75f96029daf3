package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// What "make chaos" sets: how long the soak lasts, such as 30m, and its seed.
const (
	durationVariable = "SMVM_CHAOS_DURATION"
	seedVariable     = "SMVM_CHAOS_SEED"
)

// shortSoak is how long the soak lasts in "make test".
const shortSoak = 15 * time.Second

// soakApps is how many roles work and are read during the soak.
const soakApps = 6

// TestSoak lets applications read and use their values all the time, while
// operators do random operations and random faults strike nodes and targets.
func TestSoak(t *testing.T) {
	duration := shortSoak
	if text := os.Getenv(durationVariable); text != "" {
		var err error
		duration, err = time.ParseDuration(text)
		must(t, err)
	}
	seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	if err != nil {
		seed = rand.Uint64N(1_000_000) //nolint:gosec // not a secret
	}
	t.Logf("replay: make chaos COLUMN=none SEED=%d DURATION=%s", seed, duration)
	s := &soak{lab: newLab(t), t: t, seed: seed, began: time.Now()}
	// At the end, the history has to have all that was acknowledged: nothing is pruned.
	must(t, s.configure(t.Context(), "history_retention", 100_000))
	for i := range soakApps {
		a, err := s.newApp(t.Context(), fmt.Sprintf("soak%d", i), []string{single, alternating}[i%2])
		must(t, err)
		s.apps = append(s.apps, &soaked{app: a, acknowledged: map[string]int64{}})
	}
	s.run(duration)
	s.report()
}

// soak is one run.
type soak struct {
	*lab
	t     *testing.T
	seed  uint64
	began time.Time
	apps  []*soaked

	mu      sync.Mutex
	faults  []struck
	longest [2]outage // by strategy

	refused, reads, used, superseded, unusable, unread, lost atomic.Int64
}

// struck is a fault, and when it began or was mended after the soak began.
type struck struct {
	at   time.Duration
	what string
}

func (f struck) String() string { return fmt.Sprintf("%9.3f s  %s", f.at.Seconds(), f.what) }

// outage is a time in which a reader had no value that works.
type outage struct{ from, until time.Duration }

// faultsBefore is how long before an outage a fault may have begun that explains it: no
// fault of a target lasts longer.
const faultsBefore = 20 * time.Second

// explain tells how long it was, when, and which faults there were.
func (s *soak) explain(o outage) string {
	text := fmt.Sprintf("%d ms", (o.until - o.from).Milliseconds())
	if o.until == 0 {
		return text
	}
	text += fmt.Sprintf(", from %.3f s to %.3f s:", o.from.Seconds(), o.until.Seconds())
	for _, f := range s.faults {
		if f.at > o.from-faultsBefore && f.at < o.until {
			text += "\n" + f.String()
		}
	}
	return text
}

// soaked is an app, and what its operator was told is done: the version of each
// operation by its id.
type soaked struct {
	*app
	acknowledged map[string]int64
	roots        int
}

// random returns a source of its own for each purpose, so that what one does
// does not depend on how fast another is.
func (s *soak) random(purpose int) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed, uint64(purpose))) //nolint:gosec // a replayable one
}

// run does everything at the same time for that long, and then checks.
func (s *soak) run(duration time.Duration) {
	until, stop := context.WithTimeout(s.t.Context(), duration)
	defer stop()
	var running sync.WaitGroup
	for i, a := range s.apps {
		running.Go(func() { s.operate(until, a, s.random(i)) })
		running.Go(func() { s.apply(until, a, s.random(100+i)) })
	}
	running.Go(func() { s.strikeNodes(until, s.random(1000)) })
	running.Go(func() { s.strikeTargets(until, s.random(1001)) })
	running.Wait()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	must(s.t, s.cluster.Settle(ctx))
	parallel(aFew, s.apps, func(a *soaked) {
		if err := s.finish(ctx, a); err != nil {
			s.lost.Add(1)
			s.t.Errorf("%s, %s: LOST: %v", a.id, a.strategy, err)
		}
	})
}

// operate does random operations, as an operator would, one after the other.
func (s *soak) operate(ctx context.Context, a *soaked, r *rand.Rand) {
	for ctx.Err() == nil {
		path, data := "rotate/"+a.id, map[string]any{"wait": 2} // a waiting request holds up sealing
		switch n := r.IntN(10); {
		case n < 2:
			path = "rollback/" + a.id
		case n == 2:
			path = "rotate-root/" + a.id
		case n == 3:
			data["revoke_previous"] = true
		case n == 4:
			data["secrets"] = a.id + "_db"
		}
		// The operation is to end also when the soak is over.
		answer, err := a.write(context.WithoutCancel(ctx), path, data)
		switch {
		case err != nil:
			s.refused.Add(1)
		case strings.HasPrefix(path, "rotate-root"):
			a.roots++
		case answer["status"] == "completed":
			a.acknowledged[fmt.Sprint(answer["rotation_id"])] = number(answer["version"])
		}
		pause(ctx, time.Duration(200+r.IntN(1000))*time.Millisecond)
	}
}

// pause is the pace of the load, and synchronises nothing.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// apply reads what an application reads, from any node, and uses it.
func (s *soak) apply(ctx context.Context, a *soaked, r *rand.Rand) {
	for ctx.Err() == nil {
		node := s.cluster.Nodes[r.IntN(len(s.cluster.Nodes))]
		pause(ctx, time.Duration(20+r.IntN(80))*time.Millisecond)
		v, err := a.valuesFrom(ctx, node)
		if err != nil {
			s.unread.Add(1)
			continue
		}
		s.reads.Add(1)
		s.useUntil(ctx, a, v)
	}
}

// finish waits until nothing is in flight, and checks what is left.
func (s *soak) finish(ctx context.Context, a *soaked) error {
	err := testenv.Eventually(ctx, "recovery", func(ctx context.Context) error {
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		return a.idle(ctx, client, opRoot)
	})
	if err != nil {
		return err
	}
	v, err := a.values(ctx)
	if err != nil {
		return err
	}
	if err := a.use(ctx, v.login); err != nil {
		return fmt.Errorf("the current login, version %d: %w", v.version, err)
	}
	if err := s.checkAcknowledged(ctx, a); err != nil {
		return err
	}
	if err := a.checkHistory(ctx); err != nil {
		return err
	}
	if err := a.checkVerify(ctx); err != nil {
		return err
	}
	return a.checkNext(ctx, true)
}

// checkAcknowledged looks for every operation that an operator was told is done.
func (s *soak) checkAcknowledged(ctx context.Context, a *soaked) error {
	client, err := s.client(ctx)
	if err != nil {
		return err
	}
	history, err := answer(client.Logical().ListWithContext(ctx, mountPath+"/history/"+a.id))
	if err != nil {
		return err
	}
	records, _ := history["key_info"].(map[string]any)
	versions := map[int64]string{}
	for id, version := range a.acknowledged {
		if other := versions[version]; other != "" {
			return fmt.Errorf("version %d was given to %s and %s", version, id, other)
		}
		versions[version] = id
		record, _ := records[id].(map[string]any)
		if record["outcome"] != "completed" || number(record["version"]) != version {
			return fmt.Errorf("%s was acknowledged as version %d and is recorded as %v", id, version, record)
		}
	}
	return nil
}

// report prints the figures, and after a failure also the faults.
func (s *soak) report() {
	completed := 0
	for _, a := range s.apps {
		completed += len(a.acknowledged) + a.roots
	}
	s.t.Logf("soak, seed %d, %s:\nfaults injected: %d, operations completed: %d, refused: %d, "+
		"values read: %d, used: %d, superseded before use: %d, reads without an answer: %d, unusable: %d, lost: %d\n"+
		"nodes whose raft hung while it was sealed: %d\n"+
		"longest time without a value that works: single_user %s\nlongest time without a value that works: alternating_users %s",
		s.seed, time.Since(s.began).Round(time.Second), len(s.faults), completed, s.refused.Load(),
		s.reads.Load(), s.used.Load(), s.superseded.Load(), s.unread.Load(), s.unusable.Load(), s.lost.Load(),
		s.hung, s.explain(s.longest[0]), s.explain(s.longest[1]))
	if s.used.Load() == 0 || completed == 0 || len(s.faults) == 0 {
		s.t.Error("nothing was tried")
	}
	if s.t.Failed() {
		s.t.Logf("replay: make chaos COLUMN=none SEED=%d\nthe faults were:", s.seed)
		for _, f := range s.faults {
			s.t.Log(f)
		}
	}
}

// valuesFrom reads through a node, which passes the request on if it must.
func (a *app) valuesFrom(ctx context.Context, node *testenv.Vault) (values, error) {
	client, err := a.quickClient(node)
	if err != nil {
		return values{}, err
	}
	data, err := readWith(ctx, client, "creds/"+a.id)
	if err != nil {
		return values{}, err
	}
	return a.parse(data), nil
}

// quickClient returns a client that soon gives up, as a node may be paused.
func (l *lab) quickClient(node *testenv.Vault) (*api.Client, error) {
	client, err := node.Client.Clone()
	if err != nil {
		return nil, err
	}
	client.SetToken(l.cluster.RootToken)
	client.SetMaxRetries(0)
	client.SetClientTimeout(3 * time.Second)
	return client, nil
}
