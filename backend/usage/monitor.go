package usage

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// monitor watches who still uses the previous logins of alternating users: once a
// minute it asks each server on which such a login is in its overlap for its open
// sessions, by one query, whatever the number of roles. It asks servers beside each
// other, and none again before it has answered, so that one that hangs keeps nobody
// else waiting.
type monitor struct {
	ports  Ports
	signal chan struct{}

	mu     sync.Mutex
	asking map[string]bool // connections that have not answered yet
	seen   map[previousLogin]Sessions
}

// previousLogin is a previous login in its overlap.
type previousLogin struct {
	connection, username string
	role                 string // its key
	stage                stage
}

// Sessions is what is known about the sessions of a previous login.
type Sessions struct {
	postgres.Sessions
	// Since is when the server first answered, At when last; zero if it has not.
	Since, At time.Time
	// LastSeen is when the login last had a session; zero if never.
	LastSeen time.Time
	// Err says why the last question got no answer.
	Err error
}

// answerTimeout bounds how long one server is waited for.
const answerTimeout = 20 * time.Second

// run asks the servers at each signal, until ctx ends.
func (m *monitor) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.signal:
			m.askAll(ctx)
		}
	}
}

// askAll asks each server that has to be asked, and returns at once.
func (m *monitor) askAll(ctx context.Context) {
	logins, watched := map[string][]previousLogin{}, map[previousLogin]bool{}
	for _, one := range m.previousLogins() {
		logins[one.connection], watched[one] = append(logins[one.connection], one), true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.seen, func(one previousLogin, _ Sessions) bool { return !watched[one] })
	for connection, logins := range logins {
		if !m.asking[connection] {
			m.asking[connection] = true
			go m.ask(ctx, connection, logins)
		}
	}
}

// previousLogins lists those that are in their overlap.
func (m *monitor) previousLogins() []previousLogin {
	var all []previousLogin
	for _, r := range m.ports.Roles.Loaded() {
		if roles.IsConnection(r) {
			continue
		}
		for _, s := range r.Snapshot().Secrets {
			if one, ok := m.previousLogin(r, s); ok {
				all = append(all, one)
			}
		}
	}
	return all
}

// previousLogin returns the previous login of s; false if there is none that works.
func (m *monitor) previousLogin(r *rotation.Role, s *rotation.Secret) (previousLogin, bool) {
	previous := s.PreviousAt(m.ports.Now())
	if s.Current == nil || previous == nil {
		return previousLogin{}, false
	}
	connection := m.ports.Connection(s)
	return previousLogin{
		connection: connection, username: previous.Material["username"],
		role: r.Key, stage: stage{s.Name, secret.StagePrevious, s.Current.Version},
	}, connection != "" && m.ports.Types[s.Type].OffersPrevious(*s)
}

// ask asks one server.
func (m *monitor) ask(ctx context.Context, connection string, logins []previousLogin) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var usernames []string
	for _, one := range logins {
		usernames = append(usernames, one.username)
	}
	found, err := m.ports.Sessions(ctx, connection, usernames)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.asking, connection)
	for _, one := range logins {
		m.seen[one] = m.seen[one].after(m.ports.Now(), found[one.username], err)
	}
}

// after returns what is known after another question.
func (g Sessions) after(now time.Time, found postgres.Sessions, err error) Sessions {
	if g.Err = err; err != nil {
		return g
	}
	if g.Since.IsZero() {
		g.Since = now
	}
	g.At, g.Sessions = now, found
	if found.Count > 0 {
		g.LastSeen = now
	}
	return g
}

// Sessions returns what is known about the sessions of the previous login of s; false
// if there is none that works.
func (m *monitor) Sessions(r *rotation.Role, s *rotation.Secret) (Sessions, bool) {
	one, ok := m.previousLogin(r, s)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[one], ok
}
