// Package postgres talks to the PostgreSQL servers: by a pool of sessions for each
// connection's administrator, in transactions that a fence guards, and by logins that try a
// password. It knows how to reach a server, what a server's answers mean, what may be
// shown of them, and which mount manages a user. What a secret is, it does not know.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"
)

// Connection is one PostgreSQL as the engine reaches it for administration.
type Connection struct {
	Settings Settings
	// Logins are the administrator's, best first: current, then pending while a
	// rotation of its own password is in flight, when nobody knows which of the
	// two the server accepts.
	Logins []Login
}

// Client reaches the PostgreSQL servers: by one bounded pool for each
// connection's administrator, made when first needed, and by logins of their own
// wherever a password is to be tried. It is safe for concurrent use.
type Client struct {
	// Now tells the time; it may be replaced before the first use.
	Now    func() time.Time
	lookup func(name string) (Connection, error)
	owner  Owners

	mu     sync.Mutex
	pools  map[string]*pool
	closed bool

	proofs proofs
}

const (
	// idleTime is how long an unused connection stays open.
	idleTime = 30 * time.Second
	// lifetime of a connection, so that a pool follows a moved address.
	lifetime = 10 * time.Minute
)

// New returns a Client that learns from lookup how to reach the
// connection of a name. It calls lookup at each use, and at each login, so that
// a rotated administrator's password is followed; lookup must be quick. From owner it
// learns who manages a user, for others to read at the server.
func New(lookup func(name string) (Connection, error), owner Owners) *Client {
	return &Client{Now: time.Now, lookup: lookup, owner: owner, pools: make(map[string]*pool)}
}

// Connection returns how to reach the connection of a name.
func (p *Client) Connection(name string) (Connection, error) { return p.lookup(name) }

// Owner returns which secret of this mount manages a user by a connection.
func (p *Client) Owner(ctx context.Context, connection, username string) (Owner, error) {
	return p.owner(ctx, connection, username)
}

// Forget closes the pool of a connection, because it was changed or deleted. It
// does not wait: connections in use are closed when they are released.
func (p *Client) Forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(name)
}

// Close closes all pools, like Forget, and makes every later use an error.
func (p *Client) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for name := range p.pools {
		p.forgetLocked(name)
	}
}

func (p *Client) forgetLocked(name string) {
	if old := p.pools[name]; old != nil {
		delete(p.pools, name)
		go old.conns.Close() // waits for connections in use; all of these have timeouts
	}
}

// pool is the administrator's connections to one server.
type pool struct {
	Server
	name  string
	conns *pgxpool.Pool
	// login is the index in Connection.Logins of the one that the server accepted
	// last.
	login atomic.Int32
	// plain says that a pooler has refused the parameters that sessions began with.
	plain atomic.Bool
}

// pool returns the pool of a connection as it is configured now.
func (p *Client) pool(ctx context.Context, name string) (*pool, error) {
	connection, err := p.lookup(name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("the engine is shutting down")
	}
	if found := p.pools[name]; found != nil && found.Config == connection.Settings.WithDefaults() {
		return found, nil
	}
	p.forgetLocked(name)
	made, err := p.newPool(ctx, name, connection.Settings.Config)
	if err != nil {
		return nil, fmt.Errorf("use connection %q: %w", name, err)
	}
	p.pools[name] = made
	return made, nil
}

// newPool connects to nothing yet.
func (p *Client) newPool(ctx context.Context, name string, config Config) (*pool, error) {
	s, err := NewServer(config)
	if err != nil {
		return nil, err
	}
	s = s.Settled()
	made := &pool{Server: s, name: name}
	c := s.template.Copy()
	c.ConnConfig = s.connConfig(Login{}, s.endpoint.Addresses[0])
	c.BeforeConnect = func(ctx context.Context, config *pgx.ConnConfig) error {
		connection, err := p.lookup(made.name)
		if err != nil {
			return err
		}
		l, err := made.pick(connection.Logins)
		if err != nil {
			return err
		}
		config.User, config.Password = l.Username, prepare(l.Password)
		if made.plain.Load() {
			config.RuntimeParams = maps.Clone(beginsWith)
		}
		return s.aim(ctx, config, l)
	}
	// A connection that the server ended in the meantime is replaced, not used:
	// whether a transaction begins tells as much as a ping.
	c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	c.PrepareConn = s.prepareConn
	c.AfterRelease = func(conn *pgx.Conn) bool { return conn.PgConn().CustomData()[altered] == nil }
	c.MinConns, c.MinIdleConns = 0, 0
	c.MaxConns = int32(s.Config.MaxOpenConnections) //nolint:gosec // Validate keeps it small
	c.MaxConnIdleTime, c.MaxConnLifetime, c.HealthCheckPeriod = idleTime, lifetime, idleTime/2
	made.conns, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), c)
	return made, err
}

// prepareConn begins a transaction on a connection of the pool. The pool takes
// another one if the server is not there any more.
func (s Server) prepareConn(ctx context.Context, conn *pgx.Conn) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, s.Config.ConnectTimeout)
	defer cancel()
	err := beginOn(limited, conn, readWrite)
	if err != nil && conn.IsClosed() && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// altered marks a connection on which statements ran that others wrote: they may
// have changed the role or settings of the session, so it is not used again.
const altered = "altered"

// MarkAltered has the pool close a connection when it is released.
func MarkAltered(conn *pgx.Conn) { conn.PgConn().CustomData()[altered] = true }

// pick returns the login to use now, of those that there are.
func (p *pool) pick(logins []Login) (Login, error) {
	if len(logins) == 0 {
		return Login{}, fmt.Errorf("connection %q has no login", p.name)
	}
	return logins[int(p.login.Load())%len(logins)], nil
}

// acquire returns an administrator's connection to be released, in a transaction
// that has begun, and its server.
// When the server refuses a login and there is another one, it tries that, also one
// that there was not yet when it began: the administrator's password may be rotated
// meanwhile. When Forget closes the pool, it goes on with the next one.
func (p *Client) acquire(ctx context.Context, name string) (*pgxpool.Conn, Server, error) {
	var tried []Login
	for refused := 0; ; {
		from, err := p.pool(ctx, name)
		if err != nil {
			return nil, Server{}, err
		}
		connection, err := p.lookup(name)
		if err != nil {
			return nil, Server{}, err
		}
		if !slices.Equal(tried, connection.Logins) {
			tried, refused = connection.Logins, 0
		}
		used := from.login.Load()
		l, err := from.pick(tried)
		if err != nil {
			return nil, Server{}, err
		}
		plain := from.plain.Load()
		conn, err := from.acquire(ctx)
		if err == nil {
			return conn, from.Server, nil
		}
		failed := from.loginError(l, err)
		switch {
		case refusesParameters(l.Username, err) && !plain:
			from.plain.Store(true)
		case p.interrupted(ctx, from, err):
		case PasswordRefused(failed) && p.changed(name, tried):
		case PasswordRefused(failed) && refused+1 < attempts(tried):
			refused++
			from.login.CompareAndSwap(used, used+1) // unless another call did that already
		default:
			return nil, from.Server, fmt.Errorf("use connection %q: %w", name, AdministratorRefused(l, failed))
		}
	}
}

// attempts is how many refusals are final. With two logins a rotation is under way,
// in which the server goes from the current password to the pending one and perhaps
// back: it may do so between two attempts, so that each of them is refused.
func attempts(logins []Login) int {
	if len(logins) < 2 {
		return 1
	}
	return 2 * len(logins)
}

// changed reports whether a connection has other logins than those.
func (p *Client) changed(name string, logins []Login) bool {
	now, err := p.lookup(name)
	return err == nil && !slices.Equal(now.Logins, logins)
}

// interrupted reports whether err comes of Forget closing the pool, in which a
// connection was being made or waited for.
func (p *Client) interrupted(ctx context.Context, from *pool, err error) bool {
	if ctx.Err() != nil || !errors.Is(err, puddle.ErrClosedPool) && !errors.Is(err, context.Canceled) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pools[from.name] != from
}

// acquire waits as long as it takes to connect, and when all connections are in
// use, also as long as their users may take.
func (p *pool) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	limit := p.Config.ConnectTimeout + connectGrace
	if p.chooses() {
		limit += p.Config.ConnectTimeout
	}
	if p.conns.Stat().TotalConns() >= p.conns.Config().MaxConns {
		limit += CallTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return p.conns.Acquire(ctx)
}

// connectGrace lets the attempt to connect end first, which knows the reason.
const connectGrace = 500 * time.Millisecond
