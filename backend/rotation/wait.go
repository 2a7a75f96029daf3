package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Wait is an overlap that goes on because somebody needs the previous value.
type Wait struct {
	Secret string
	// Version is that of the previous value.
	Version int
	For     []string
	// Until is when the overlap ends at the latest.
	Until time.Time
}

// Who lists for whom it is without what changes from look to look although nobody comes or
// goes: how many more there are, and why sessions could not be counted.
func (w Wait) Who() []string {
	names := slices.Clone(w.For[:min(len(w.For), maxNames)])
	for i, name := range names {
		if strings.HasPrefix(name, openSessions) {
			names[i] = openSessions
		}
	}
	return names
}

// String tells it to a person.
func (w Wait) String() string {
	return fmt.Sprintf("secret %s, version %d, until %s at the latest, by: %s", w.Secret, w.Version, w.Until.Format(time.RFC3339), strings.Join(w.For, ", "))
}

// WaitsText tells several to a person.
func WaitsText(waits []Wait) string {
	var texts []string
	for _, w := range waits {
		texts = append(texts, w.String())
	}
	return strings.Join(texts, "; ")
}

// Waits lists the overlaps that go on because somebody needs the previous values.
func (s *Snapshot) Waits(now time.Time) []Wait {
	var waits []Wait
	for _, name := range s.Names() {
		previous := s.Secrets[name].Previous
		if previous != nil && len(previous.WaitsFor) > 0 && previous.DrainUntil.After(now) {
			waits = append(waits, Wait{name, previous.Version, previous.WaitsFor, s.beforeNext(previous.DrainUntil)})
		}
	}
	return waits
}

const (
	// maxNames is how many names of those who need a value are kept, and maxName how many
	// bytes of each.
	maxNames = 10
	maxName  = 200
)

// few is what is kept of names.
func few(names []string) []string {
	var kept []string
	for _, name := range names[:min(len(names), maxNames)] {
		if len(name) > maxName {
			name = strings.ToValidUTF8(name[:maxName], "") + "…"
		}
		kept = append(kept, name)
	}
	if more := len(names) - maxNames; more > 0 {
		kept = append(kept, fmt.Sprintf("and %d more", more))
	}
	return kept
}
