package secret

import (
	"math"
	"testing"
)

// TestPickIsUniform counts 62,000 characters: each of 62 is expected 1,000
// times; 6 standard deviations are 190.
func TestPickIsUniform(t *testing.T) {
	count := make(map[rune]float64)
	for _, c := range Pick([]rune(Base62), 62_000) {
		count[c]++
	}
	for _, c := range Base62 {
		if math.Abs(count[c]-1000) > 190 {
			t.Errorf("%q was picked %.0f times, want about 1000", c, count[c])
		}
	}
}
