package backend

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// sightings tells who still uses the previous logins of alternating users: once a
// minute each server on which such a login is in its overlap is asked for its open
// sessions, by one query, whatever the number of roles. Servers are asked beside
// each other, and none again before it has answered, so that one that hangs keeps
// nobody else waiting. What is seen is for status, and kept in memory only.
type sightings struct {
	b      *backend
	signal chan struct{}

	mu     sync.Mutex
	asking map[string]bool // connections that have not answered yet
	seen   map[watched]sighting
}

// watched is a previous login in its overlap.
type watched struct {
	connection, username string
	role                 string // its key
	tenure               tenure
}

// sighting is what is known about one of them.
type sighting struct {
	// since is when it was first looked for, looked when last, with an answer.
	since, looked time.Time
	// lastSeen is when it last had a session; zero if never.
	lastSeen time.Time
	sessions secret.Sessions
	// err says why the last attempt to look got no answer.
	err error
}

// lookTimeout bounds how long one server is waited for.
const lookTimeout = 20 * time.Second

func newSightings(b *backend) *sightings {
	return &sightings{b: b, signal: make(chan struct{}, 1), asking: map[string]bool{}, seen: map[watched]sighting{}}
}

// run looks whenever tick says so, until ctx ends.
func (w *sightings) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.signal:
			w.look(ctx)
		}
	}
}

// tick asks for a look. It never blocks.
func (w *sightings) tick() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// look asks each server that has to be asked, and returns at once.
func (w *sightings) look(ctx context.Context) {
	wanted, watching := map[string][]watched{}, map[watched]bool{}
	for _, one := range w.wanted() {
		wanted[one.connection], watching[one] = append(wanted[one.connection], one), true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.seen, func(one watched, _ sighting) bool { return !watching[one] })
	for connection, logins := range wanted {
		if !w.asking[connection] {
			w.asking[connection] = true
			go w.ask(ctx, connection, logins)
		}
	}
}

// wanted lists the previous logins that are in their overlap.
func (w *sightings) wanted() []watched {
	var all []watched
	for _, r := range w.b.registry.Loaded() {
		if roles.IsConnection(r) {
			continue
		}
		for _, s := range r.Snapshot().Secrets {
			if one, ok := w.b.watched(r, s); ok {
				all = append(all, one)
			}
		}
	}
	return all
}

// watched describes the previous login of s; false if there is none that works.
func (b *backend) watched(r *rotation.Role, s *rotation.Secret) (watched, bool) {
	previous := s.PreviousAt(b.now())
	if s.Type != databaseType || s.Current == nil || previous == nil || !b.types[s.Type].OffersPrevious(*s) {
		return watched{}, false
	}
	config, err := databaseConfig(s)
	return watched{
		connection: config.Connection, username: previous.Material["username"],
		role: r.Key, tenure: tenure{s.Name, stagePrevious, s.Current.Version},
	}, err == nil
}

// ask looks at one server.
func (w *sightings) ask(ctx context.Context, connection string, logins []watched) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var usernames []string
	for _, one := range logins {
		usernames = append(usernames, one.username)
	}
	found, err := w.b.postgres.Sessions(ctx, connection, usernames)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.asking, connection)
	for _, one := range logins {
		w.seen[one] = w.seen[one].next(w.b.now(), found[one.username], err)
	}
}

// next is what is known after another look.
func (g sighting) next(now time.Time, found secret.Sessions, err error) sighting {
	if g.err = err; err != nil {
		return g
	}
	if g.since.IsZero() {
		g.since = now
	}
	g.looked, g.sessions = now, found
	if found.Count > 0 {
		g.lastSeen = now
	}
	return g
}

// of returns what is known about a login.
func (w *sightings) of(one watched) sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[one]
}

// describe adds to a previous stage of status what is known about its sessions.
func (g sighting) describe(stage map[string]any) {
	stage["last_used"], stage["counted_since"], stage["looked_at"] = timestamp(g.lastSeen), timestamp(g.since), timestamp(g.looked)
	stage["sessions"] = nil
	if !g.looked.IsZero() {
		stage["sessions"] = g.sessions.Count
	}
	if !g.sessions.Newest.IsZero() {
		stage["newest_session"] = timestamp(g.sessions.Newest)
	}
	if g.err != nil {
		stage["look_error"] = g.err.Error()
	}
}
