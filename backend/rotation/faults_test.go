package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEveryFault strikes at every side effect of every scenario, before and after
// it landed, once, for ever, and by the death of the process.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	total, n, part := 0, 0, samples()
	for _, s := range scenarios() {
		base, calls := baseline(t, s)
		for at, name := range calls {
			for _, f := range faultsAt(at, name) {
				for _, late := range lateness(f) {
					if n++; n%part.single != 0 {
						continue
					}
					c := cell{s, []fault{f}, late}
					t.Run(fmt.Sprintf("%s/%s %s/late=%t", s.name, name, f, late), func(t *testing.T) { c.play(t, base) })
					total++
				}
			}
		}
	}
	t.Logf("%d single faults", total)
}

// baseline prepares a scenario and lists its side effects when nothing fails.
func baseline(t *testing.T, s scenario) (*world, []string) {
	t.Helper()
	base := newWorld()
	s.prepare(t, base)
	base.stop()
	if len(base.broken) > 0 {
		t.Fatal(base.broken[0])
	}
	w := base.clone()
	w.boot(t)
	defer w.stop()
	rec, err := w.do(s.request)
	if err != nil || rec.Outcome != OutcomeCompleted && rec.Kind != "" { // none is made of what is put off
		t.Fatalf("%s without any fault: %+v, %v", s.name, rec, err)
	}
	w.idle(t, time.Hour, 20)
	calls := w.calls
	w.settled(t)
	return base, calls
}

// faultsAt lists the faults that make a difference at a call.
func faultsAt(at int, name string) []fault {
	var faults []fault
	for _, how := range []how{once, forever, death} {
		faults = append(faults, fault{at, false, how})
		if !strings.HasSuffix(name, ".test") && !strings.HasSuffix(name, ".create") {
			faults = append(faults, fault{at, true, how})
		}
	}
	if strings.HasSuffix(name, ".set") {
		faults = append(faults, fault{at, false, lies})
	}
	if changes(name) {
		faults = append(faults, fault{at, false, refusal}, fault{at, false, refusals})
	}
	if strings.HasSuffix(name, ".set") || strings.HasSuffix(name, ".test") {
		faults = append(faults, fault{at, false, refused}, fault{at, false, refuses})
	}
	return faults
}

// changes reports whether a call is to change a target, which may refuse that.
func changes(name string) bool {
	return strings.HasSuffix(name, ".set") || strings.HasSuffix(name, ".undo") || strings.HasSuffix(name, ".retire")
}

// lateness says whether the request that a death interrupted is delivered again
// before or after the scheduler has had its turn.
func lateness(faults ...fault) []bool {
	for _, f := range faults {
		if f.how == death {
			return []bool{false, true}
		}
	}
	return []bool{false}
}
