package smvmcreds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// maxDrain is the longest time over which the connections of a previous user
	// are closed, maxSweeps how often idle ones are looked at in it.
	maxDrain  = 30 * time.Second
	maxSweeps = 4
	// retries is how often Retry repeats what was refused.
	retries = 10
)

// BeforeConnect is pgxpool.Config.BeforeConnect for a secret of type database:
// each new connection goes where the current credentials say, by TLS as they say,
// and logs in with their username and password. What libpq's environment
// variables, its files in the home directory and the connection string say about
// any of that counts for nothing, but for a client certificate.
func (s *Source) BeforeConnect(secret string) func(context.Context, *pgx.ConnConfig) error {
	return func(_ context.Context, config *pgx.ConnConfig) error {
		c := s.Current()
		if err := c.login(config, secret); err != nil {
			return err
		}
		return c.place(config, secret)
	}
}

// NewPool makes a pool that connects as BeforeConnect says, and that moves to new
// values as the package comment says. It sets BeforeConnect, AfterRelease and
// ConnConfig.OnPgError of config, which is to leave them alone.
func (s *Source) NewPool(ctx context.Context, config *pgxpool.Config, secret string) (*pgxpool.Pool, error) {
	config.BeforeConnect = s.BeforeConnect(secret)
	return s.newPool(ctx, config, secret)
}

// NewPoolAt is NewPool for a server that config names, such as a PgBouncer on the
// same machine: only username and password are the credentials'. The connection
// string of config has to name sslmode, so that no environment decides it, and
// one that does not fall back to a connection without TLS.
func (s *Source) NewPoolAt(ctx context.Context, config *pgxpool.Config, secret string) (*pgxpool.Pool, error) {
	if !strings.Contains(config.ConnString(), "sslmode") || fallsBack(config.ConnConfig) {
		return nil, errors.New("make pool: the connection string has to name sslmode: verify-full, verify-ca or require, or disable for a server on the same machine")
	}
	config.BeforeConnect = func(_ context.Context, at *pgx.ConnConfig) error { return s.Current().login(at, secret) }
	return s.newPool(ctx, config, secret)
}

// fallsBack reports whether some connections would be with TLS and some without,
// as with prefer and allow.
func fallsBack(config *pgx.ConnConfig) bool {
	return slices.ContainsFunc(config.Fallbacks, func(other *pgconn.FallbackConfig) bool {
		return (other.TLSConfig == nil) != (config.TLSConfig == nil)
	})
}

func (s *Source) newPool(ctx context.Context, config *pgxpool.Config, secret string) (*pgxpool.Pool, error) {
	d := &drain{source: s, secret: secret}
	config.AfterRelease = d.keep
	standard := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if refusesLogin(err.Code) {
			s.nudge()
		}
		return standard(conn, err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("make pool: %w", err)
	}
	s.OnChange(func(ctx context.Context, c *Credentials) { d.begin(ctx, pool, c) })
	return pool, nil
}

// drain moves a pool from one user to the next.
type drain struct {
	source *Source
	secret string
	plan   atomic.Pointer[plan]
}

// plan says when connections of other users than the current one are closed.
type plan struct {
	begins time.Time
	window time.Duration
}

// begin is called with each new version. A reader who was told to come back
// after ttl has at least another ttl before the overlap ends, because the
// overlap is at least two of them; the drain takes half of that.
func (d *drain) begin(ctx context.Context, pool *pgxpool.Pool, c *Credentials) {
	p := &plan{begins: time.Now(), window: min(c.TTL/2, maxDrain)}
	d.plan.Store(p)
	go func() {
		for range maxSweeps {
			if !d.source.await(ctx, p.window/maxSweeps) || d.plan.Load() != p {
				return
			}
			sweep(ctx, pool)
		}
	}()
}

// sweep has every idle connection looked at: releasing it calls keep.
func sweep(ctx context.Context, pool *pgxpool.Pool) {
	for _, conn := range pool.AcquireAllIdle(ctx) {
		conn.Release()
	}
}

// keep is pgxpool.Config.AfterRelease. The process id of the server spreads the
// ends of connections evenly over the window.
func (d *drain) keep(conn *pgx.Conn) bool {
	p := d.plan.Load()
	if p == nil || conn.Config().User == d.source.Current().Value(d.secret, "username") {
		return true
	}
	const slots = 16
	end := p.window * time.Duration(conn.PgConn().PID()%slots) / slots
	return time.Since(p.begins) < end
}

// Retry runs f, and again with credentials read anew for as long as PostgreSQL
// refuses the login with which f wants to open a connection; nothing has reached
// the database then. With single_user that bridges the moment of a rotation.
func (s *Source) Retry(ctx context.Context, f func(context.Context) error) error {
	err := f(ctx)
	for range retries {
		if !LoginRefused(err) {
			return err
		}
		if refreshErr := s.Refresh(ctx); refreshErr != nil {
			return errors.Join(err, refreshErr)
		}
		err = f(ctx)
	}
	return err
}

// LoginRefused reports whether err is PostgreSQL refusing a login.
func LoginRefused(err error) bool {
	var connecting *pgconn.ConnectError
	var refusal *pgconn.PgError
	return errors.As(err, &connecting) && errors.As(err, &refusal) && refusesLogin(refusal.Code)
}

// refusesLogin recognizes SQLSTATE class 28: no such user, wrong password.
func refusesLogin(sqlState string) bool { return strings.HasPrefix(sqlState, "28") }
