package rotation

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

// TestEveryPairOfFaults strikes a second time at every side effect that follows
// the first fault, those of the recovery as well. By default it plays a part of
// all pairs that is spread evenly; SMVM_PAIRS=all plays every one.
func TestEveryPairOfFaults(t *testing.T) {
	t.Parallel()
	stride := pairStride()
	var total, played atomic.Int64
	t.Run("pairs", func(t *testing.T) {
		for _, s := range scenarios() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				base, calls := baseline(t, s)
				for at := range calls {
					for _, first := range kindsAt(at) {
						all, some := playPairs(t, base, s, first, stride)
						total.Add(all)
						played.Add(some)
					}
				}
			})
		}
	})
	t.Logf("%d of %d pairs", played.Load(), total.Load())
}

func pairStride() int {
	switch {
	case os.Getenv("SMVM_PAIRS") == "all":
		return 1
	case raceEnabled:
		return 67
	}
	return 13
}

// kindsAt lists the faults of which pairs are made.
func kindsAt(at int) []fault {
	return []fault{{at, false, once}, {at, true, once}, {at, false, forever}, {at, false, death}, {at, true, death}}
}

// playPairs plays the first fault with every second one.
func playPairs(t *testing.T, base *world, s scenario, first fault, stride int) (all, some int64) {
	t.Helper()
	end := cell{s, []fault{first}, false}.play(t, base).calls
	for at := first.at + 1; at < end; at++ {
		for kind, second := range kindsAt(at) {
			for _, late := range lateness(first, second) {
				all++
				if (first.at*31+at*17+kind*7+int(all))%stride != 0 {
					continue
				}
				some++
				c := cell{s, []fault{first, second}, late}
				if !t.Run(fmt.Sprintf("%s, %s, late=%t", first, second, late), func(t *testing.T) { c.play(t, base) }) {
					return all, some
				}
			}
		}
	}
	return all, some
}
