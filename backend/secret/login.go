package secret

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Login is a user name and a password.
type Login struct{ Username, Password string }

// String implements fmt.Stringer without showing the password.
func (l Login) String() string { return l.Username }

// GoString implements fmt.GoStringer without showing the password.
func (l Login) GoString() string { return l.Username }

// LoginOf is the login that a value is.
func LoginOf(v *rotation.Value) Login {
	return Login{Username: v.Material["username"], Password: v.Material["password"]}
}

// server is one PostgreSQL and how to log in to it.
type server struct {
	config   ConnectionConfig
	endpoint Endpoint
	tls      *tls.Config
	template *pgxpool.Config
	// resolve returns the addresses of a host name.
	resolve func(ctx context.Context, host string) ([]string, error)
	// primary is which of several hosts was the primary when that was last seen.
	primary *atomic.Pointer[Address]
	// administers says that sessions are the administrator's, which have settings that
	// are the engine's own from the first moment on.
	administers bool
}

func newServer(c ConnectionConfig) (server, error) {
	c = c.WithDefaults()
	endpoint, err := c.Endpoint()
	if err != nil {
		return server{}, err
	}
	tlsConfig, err := c.tlsConfig(endpoint)
	if err != nil {
		return server{}, err
	}
	template, err := template()
	return server{
		config: c, endpoint: endpoint, tls: tlsConfig, template: template,
		resolve: net.DefaultResolver.LookupHost, primary: primaryOf(endpoint),
	}, err
}

// settled returns the same server for logins of the administrator.
func (s server) settled() server {
	s.administers = true
	return s
}

// template is the configuration that all others are copied from: pgx accepts
// only ones that its own parser made.
var template = sync.OnceValues(parseWithoutEnvironment)

// parseWithoutEnvironment lets pgx make a configuration in which nothing comes
// from Vault's environment or home directory: no PGHOST, PGOPTIONS, PGSERVICE,
// no ~/.pgpass, no ~/.postgresql. The environment must be put aside for that,
// because a service, for one, cannot be overridden. A host that is a path makes
// the parser leave TLS files alone, a password makes it leave ~/.pgpass alone.
func parseWithoutEnvironment() (*pgxpool.Config, error) {
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
			defer func() { _ = os.Setenv(name, value) }()
		}
	}
	config, err := pgxpool.ParseConfig("host=/nowhere port=5432 dbname=none user=none password=none")
	if err != nil {
		return nil, fmt.Errorf("make pgx configuration: %w", err)
	}
	return config, nil
}

// connConfig returns how to log in as l at one of the hosts. Everything is said here;
// of the template only what pgx needs for itself is left.
func (s server) connConfig(l Login, at Address) *pgx.ConnConfig {
	c := s.template.ConnConfig.Copy()
	c.Database, c.Fallbacks = s.endpoint.Database, nil
	c.User, c.Password = l.Username, prepare(l.Password)
	c.ConnectTimeout = s.config.ConnectTimeout
	c.DialFunc, c.LookupFunc = s.dial, undivided
	s.direct(c, at)
	c.RuntimeParams = maps.Clone(beginsWith)
	if s.administers {
		c.RuntimeParams = beginsSettled()
	}
	c.ChannelBinding = s.config.ChannelBinding
	if s.config.PasswordAuthentication == AuthenticateSCRAM {
		c.RequireAuth = "scram-sha-256"
	}
	c.BuildFrontend = buildFrontend
	// Nothing is listened to, and pgx would keep what comes nevertheless.
	c.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
	// Statements are not prepared, so that a pooler in between may hand every
	// transaction to another server connection.
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	return c
}

// login opens a connection of its own as l, within the connect timeout. The
// caller closes it with hangUp.
func (s server) login(ctx context.Context, l Login) (*pgx.Conn, error) {
	conn, _, err := s.find(ctx, l)
	if err != nil {
		return nil, s.loginError(l, err)
	}
	return conn, nil
}

// loginAt is login at one of the hosts. Its errors are those of pgx.
func (s server) loginAt(ctx context.Context, l Login, at Address) (*pgx.Conn, error) {
	config := s.connConfig(l, at)
	conn, err := pgx.ConnectConfig(ctx, config)
	if s.administers && refusesParameters(l.Username, err) {
		config.RuntimeParams = maps.Clone(beginsWith)
		conn, err = pgx.ConnectConfig(ctx, config)
	}
	if s.config.PasswordAuthentication == AuthenticatePassword && refuses(l.Username, err) && config.Password != l.Password {
		// MD5 hashes the password as it is typed, and SCRAM does not.
		config.Password = l.Password
		conn, err = pgx.ConnectConfig(ctx, config)
	}
	return conn, err
}

// try logs in as l, lets the server answer one query, and hangs up.
func (s server) try(ctx context.Context, l Login) error {
	conn, err := s.login(ctx, l)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	if err := execute(ctx, conn, "SELECT 1"); err != nil {
		return s.loginError(l, err)
	}
	return nil
}

// refusal returns the SQLSTATE with which the server refuses the login, and an
// error when the server accepts it or when that cannot be told. What names the
// password.
func (s server) refusal(ctx context.Context, l Login, what string) (string, error) {
	err := s.try(ctx, l)
	switch {
	case loginRefused(err):
		return codeOf(err), nil
	case err != nil:
		return "", fmt.Errorf("prove that %s of %q is refused: %w", what, l.Username, err)
	}
	if s.try(ctx, Login{Username: l.Username, Password: randomPassword()}) == nil {
		return "", fmt.Errorf("%s lets %q in with %s, as with any: its pg_hba.conf trusts this user, so that no login proves anything; ask for scram-sha-256 there", s.endpoint, l.Username, what)
	}
	return "", fmt.Errorf("%s still accepts %s of %q", s.endpoint, what, l.Username)
}

// loginError says who could not log in where, and why.
func (s server) loginError(l Login, err error) error {
	if already := (*serverError)(nil); !errors.As(err, &already) {
		err = answerTo(l, err)
	}
	return fmt.Errorf("log in to %s, database %q, as %q: %w", s.endpoint, s.endpoint.Database, l.Username, err)
}

// answerTo is what may be shown of the error of a login, and whether that was refused.
func answerTo(l Login, err error) *serverError {
	if already := (*serverError)(nil); errors.As(err, &already) {
		return already
	}
	answer := reduceAnswer(err, l.Password)
	answer.refused = refuses(l.Username, err)
	if channelBroken(err) {
		answer.text += ": something on the way ends TLS and begins it again, so that the server sees another certificate than the engine; let it pass TLS through, or, if it is yours, set channel_binding=disable on the connection"
	}
	return answer
}

// reduced is reduce for an error that may have been reduced before.
func reduced(err error) error {
	if already := (*serverError)(nil); errors.As(err, &already) {
		return already
	}
	return reduce(err)
}

// hangUp closes a connection without waiting for a server that stalls, also
// when ctx has ended.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// awaitEnd asks the server to end the session of a connection, and returns when it
// has, at most a second later. The server closes its side when nobody sees the
// session any more.
func awaitEnd(conn *pgx.Conn) {
	if conn.IsClosed() {
		return
	}
	c := conn.PgConn()
	if c.Conn().SetDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	c.Frontend().Send(&pgproto3.Terminate{})
	if c.Frontend().Flush() == nil {
		_, _ = io.Copy(io.Discard, c.Conn())
	}
}

// execute sends one text to the server and waits at most callTimeout.
func execute(ctx context.Context, conn *pgx.Conn, sql string, secrets ...string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	return reduce(err, secrets...)
}

// executeOne is execute for text that others wrote. It goes through the extended
// protocol, in which a text with more than one statement is an error, so that
// none can end the transaction around it by a COMMIT at its end. One that ends it
// all the same is an error, so that no other statement follows it.
func executeOne(ctx context.Context, conn *pgx.Conn, sql string, secrets ...string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Close()
	if err == nil && conn.PgConn().TxStatus() != inTransaction {
		return errors.New("it ended the transaction in which the engine runs it: leave out what does so")
	}
	return reduce(err, secrets...)
}

// inTransaction is the status that the server tells inside of a transaction
// (https://www.postgresql.org/docs/current/protocol-message-formats.html, ReadyForQuery).
const inTransaction = 'T'

// isCode reports whether the server answered err with that SQLSTATE.
func isCode(err error, code string) bool {
	return err != nil && codeOf(reduced(err)) == code
}
