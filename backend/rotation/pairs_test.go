package rotation

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

// sampling says which part of the cells is played: one of so many single faults,
// of first faults of pairs, and of second ones.
type sampling struct{ single, first, second int }

// samples is a part that takes seconds, spread evenly. SMVM_FAULTS=all plays
// every cell, which takes minutes.
func samples() sampling {
	switch {
	case os.Getenv("SMVM_FAULTS") == "all":
		return sampling{1, 1, 1}
	case raceEnabled:
		return sampling{1, 17, 29}
	}
	return sampling{1, 3, 7}
}

// TestEveryPairOfFaults strikes a second time at every side effect that follows
// the first fault, those of the recovery as well.
func TestEveryPairOfFaults(t *testing.T) {
	t.Parallel()
	part := samples()
	var played atomic.Int64
	t.Run("pairs", func(t *testing.T) {
		for _, s := range scenarios() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				base, calls := baseline(t, s)
				for at := range calls {
					for kind, first := range kindsAt(at) {
						if (at*7+kind)%part.first == 0 {
							played.Add(playPairs(t, base, s, first, part.second))
						}
					}
				}
			})
		}
	})
	t.Logf("%d pairs of faults", played.Load())
}

// kindsAt lists the faults of which pairs are made.
func kindsAt(at int) []fault {
	return []fault{
		{at, false, once},
		{at, true, once},
		{at, false, forever},
		{at, false, death},
		{at, true, death},
		{at, false, refusal},
		{at, false, refusals},
	}
}

// playPairs plays the first fault with one of so many second ones.
func playPairs(t *testing.T, base *world, s scenario, first fault, stride int) (played int64) {
	t.Helper()
	end, n := cell{s, []fault{first}, false}.play(t, base).calls, first.at
	for at := first.at + 1; at < end; at++ {
		for _, second := range kindsAt(at) {
			for _, late := range lateness(first, second) {
				if n++; n%stride != 0 {
					continue
				}
				played++
				c := cell{s, []fault{first, second}, late}
				if !t.Run(fmt.Sprintf("%s, %s, late=%t", first, second, late), func(t *testing.T) { c.play(t, base) }) {
					return played
				}
			}
		}
	}
	return played
}
