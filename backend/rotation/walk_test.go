package rotation

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// TestWalk plays operations, faults and outages in an order that nobody thought of. A walk
// that fails says its seed, and does the same again.
func TestWalk(t *testing.T) {
	t.Parallel()
	walks := uint64(200)
	if os.Getenv("SMVM_FAULTS") == "all" {
		walks = 10_000
	}
	for seed := range walks {
		random := rand.New(rand.NewPCG(0, seed)) //nolint:gosec // it has to do the same again
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { walk(t, random) })
	}
	t.Logf("%d walks", walks)
}

func walk(t *testing.T, random *rand.Rand) {
	t.Helper()
	w := newWorld()
	prepare(pick(random, [][]string{{"db", "jwt", "app"}, {"db"}, {"jwt", "api"}, {"patient", "jwt"}, {"strict", "app"}})...)(t, w)
	defer func() { w.stop() }()
	must(t, w.role.change(t.Context(), nil, func(s *State) error {
		s.Policy.Overlap = pick(random, []time.Duration{24 * time.Hour, time.Hour, 2 * time.Minute})
		s.Policy.RefreshInterval = pick(random, []time.Duration{time.Minute, s.Policy.Overlap / 2})
		s.Policy.Period = pick(random, []time.Duration{90 * 24 * time.Hour, 48 * time.Hour})
		return nil
	}))
	for range 40 {
		w.wander(t, random)
		if w.isDead() {
			w.restart(t)
		}
		if len(w.broken) > 0 {
			t.Fatal(w.broken[0])
		}
	}
	w.heal()
	if !w.idle(t, 3*time.Hour, 60) {
		t.Fatalf("it does not come to rest: %+v", w.role.Snapshot().NextAction(w.now()))
	}
	w.settled(t)
	cell{}.afterwards(t, w)
}

// wander takes one step.
func (w *world) wander(t *testing.T, random *rand.Rand) {
	t.Helper()
	s := w.role.Snapshot()
	overlap, interval := s.Resolved.Overlap, s.Resolved.RefreshInterval
	times := []time.Duration{time.Second, interval / 3, interval, overlap / 2, overlap - time.Second, overlap, overlap + interval}
	switch random.IntN(6) {
	case 0:
		req := Request{Kind: pick(random, []Kind{KindRotate, KindRotate, KindRollback, KindRetire, KindRepair}), Trigger: TriggerManual, Force: random.IntN(2) == 0}
		req.RevokePrevious = req.Kind == KindRotate && random.IntN(6) == 0
		if random.IntN(3) == 0 {
			req.Secrets = []string{pick(random, s.Names())}
		}
		_, _ = w.do(req)
	case 1, 2:
		w.idle(t, pick(random, times), 40)
	case 3:
		w.stop()
		w.advance(pick(random, times))
		w.boot(t)
	case 4:
		w.advance(pick(random, times))
	case 5:
		w.outage = pick(random, times)
		if w.heal(); random.IntN(2) == 0 {
			w.faults = []fault{{at: len(w.calls) + random.IntN(12), how: pick(random, []how{once, forever, death, refusal, refusals})}}
		}
	}
}

func pick[T any](random *rand.Rand, of []T) T { return of[random.IntN(len(of))] }
