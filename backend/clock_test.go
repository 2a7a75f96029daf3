package backend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestClockThatWasAhead rotates while the clock is ahead and sets it right: what is
// stored is brought back, said and told, by a process that goes on and by one that
// starts, and the role rotates when it is to.
func TestClockThatWasAhead(t *testing.T) {
	for _, ahead := range []time.Duration{400 * 24 * time.Hour, 3 * time.Hour} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprint(ahead, " ", restarts), func(t *testing.T) {
				m := newMount(t)
				receiver := newReceiver(t)
				m.write("alerts/a", d("type", "webhook", "url", receiver.URL, "events", "clock_ahead"))
				m.write("roles/r", d("rotation_period", "1h", "overlap", "10m"))
				m.write("secrets/r/pin", d("type", "random"))
				m.write("secrets/r/jwt", d("type", "jwt"))
				version := m.version("r")
				m.tick(ahead)
				m.becomes("r", version+1)
				m.clock.advance(-ahead)
				now := m.clock.now()
				if restarts {
					m.boot()
				} else {
					if verified := m.read("verify/r", nil); len(findings(verified, "role.clock")) != 1 { // of what is to be brought back, or was
						t.Errorf("verify finds %v", verified["findings"])
					}
					m.tick(0)
				}
				planned := func() (at time.Time) {
					at, err := time.Parse(time.RFC3339, fmt.Sprint(m.read("status/r", nil)["next_vault_rotation"]))
					if err != nil {
						t.Error(err)
					}
					return at
				}
				m.eventually("the times to be brought back", func() bool { return !planned().After(now.Add(time.Hour)) })
				if at := planned(); at.Before(now.Add(50 * time.Minute)) {
					t.Errorf("it is to rotate at %s", at)
				}
				status := m.read("status/r", nil)
				if advice := fmt.Sprint(status["advice"]); !strings.Contains(advice, "a clock was ahead") || !strings.Contains(advice, "next_rotation") {
					t.Errorf("the advice is %q", advice)
				}
				for _, f := range findings(m.read("verify/r", nil), "role.clock") {
					if f["severity"] != "warning" {
						t.Errorf("verify finds %v", f)
					}
				}
				m.receives(receiver, "clock_ahead")
				m.tick(11 * time.Minute)
				m.overlapOver("pin")
				version = m.version("r")
				m.tick(50 * time.Minute)
				m.becomes("r", version+1)
				if status := m.read("status/r", nil); status["advice"] != "" {
					t.Errorf("after the next rotation the advice is %q", status["advice"])
				}
				m.wholeHistory("history/r")
			})
		}
	}
}

// TestTimesThatPostpone puts each stored time that postpones something into the far
// future, and expects it to be brought back.
func TestTimesThatPostpone(t *testing.T) {
	far := func(m *mount) time.Time { return m.clock.now().Add(400 * 24 * time.Hour).UTC().Truncate(time.Second) }
	for name, spoil := range map[string]func(s *rotation.State, at time.Time){
		"next rotation": func(s *rotation.State, at time.Time) { s.NextRotation = at },
		"anchor":        func(s *rotation.State, at time.Time) { s.Anchor, s.LastRotation = at, at },
		"retry":         func(s *rotation.State, at time.Time) { s.RetryAt, s.Failures = at, 1 },
		"overlap": func(s *rotation.State, at time.Time) {
			previous := *s.Secrets["jwt"].Previous
			previous.Replaced, previous.RetireTime = at, at.Add(10*time.Minute)
			s.Secrets["jwt"].Previous = &previous
		},
		"wait for sessions": func(s *rotation.State, at time.Time) {
			previous := *s.Secrets["jwt"].Previous
			previous.Replaced, previous.RetireTime, previous.DrainUntil = at, at.Add(10*time.Minute), at.Add(time.Hour)
			s.Secrets["jwt"].Previous = &previous
		},
		"published ahead": func(s *rotation.State, at time.Time) {
			next := *s.Secrets["jwt"].Next
			next.Published = at
			s.Secrets["jwt"].Next = &next
		},
		"what follows": func(s *rotation.State, at time.Time) {
			s.PostCommit = &rotation.PostCommit{ID: "x", Kind: rotation.KindRotate, Tasks: []rotation.Task{{Name: "check/gone", Next: at}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			m.write("roles/r", d("rotation_period", "1h", "overlap", "10m"))
			m.write("secrets/r/jwt", d("type", "jwt", "algorithm", "ES256"))
			m.write("rotate/r", nil)
			r := m.restate("r", func(s *rotation.State) { spoil(s, far(m)) })
			m.eventually("the time to be brought back", func() bool { return r.Snapshot().Rewound != nil && len(r.Snapshot().Ahead(m.clock.now())) == 0 })
			version := m.version("r")
			m.tick(11 * time.Minute)
			m.overlapOver("jwt")
			m.tick(61 * time.Minute)
			m.becomes("r", version+1)
		})
	}
}
