package postgres

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

// Server is one PostgreSQL and how to log in to it.
type Server struct {
	Config   Config
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

// NewServer returns the server of a connection, for logins of anybody.
func NewServer(c Config) (Server, error) {
	c = c.WithDefaults()
	endpoint, err := c.Endpoint()
	if err != nil {
		return Server{}, err
	}
	tlsConfig, err := c.tlsConfig(endpoint)
	if err != nil {
		return Server{}, err
	}
	template, err := template()
	return Server{
		Config: c, endpoint: endpoint, tls: tlsConfig, template: template,
		resolve: net.DefaultResolver.LookupHost, primary: primaryOf(endpoint),
	}, err
}

// Settled returns the same server for logins of the administrator.
func (s Server) Settled() Server {
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
func (s Server) connConfig(l Login, at Address) *pgx.ConnConfig {
	c := s.template.ConnConfig.Copy()
	c.Database, c.Fallbacks = s.endpoint.Database, nil
	c.User, c.Password = l.Username, prepare(l.Password)
	c.ConnectTimeout = s.Config.ConnectTimeout
	c.DialFunc, c.LookupFunc = s.dial, undivided
	s.direct(c, at)
	c.RuntimeParams = maps.Clone(beginsWith)
	if s.administers {
		c.RuntimeParams = beginsSettled()
	}
	c.ChannelBinding = s.Config.ChannelBinding
	if s.Config.PasswordAuthentication == AuthenticateSCRAM {
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

// Login opens a connection of its own as l, within the connect timeout. The
// caller closes it with HangUp.
func (s Server) Login(ctx context.Context, l Login) (*pgx.Conn, error) {
	conn, _, err := s.find(ctx, l)
	if err != nil {
		return nil, s.loginError(l, err)
	}
	return conn, nil
}

// loginAt is login at one of the hosts. Its errors are those of pgx.
func (s Server) loginAt(ctx context.Context, l Login, at Address) (*pgx.Conn, error) {
	config := s.connConfig(l, at)
	conn, err := pgx.ConnectConfig(ctx, config)
	if s.administers && refusesParameters(l.Username, err) {
		config.RuntimeParams = maps.Clone(beginsWith)
		conn, err = pgx.ConnectConfig(ctx, config)
	}
	if s.Config.PasswordAuthentication == AuthenticatePassword && refuses(l.Username, err) && config.Password != l.Password {
		// MD5 hashes the password as it is typed, and SCRAM does not.
		config.Password = l.Password
		conn, err = pgx.ConnectConfig(ctx, config)
	}
	return conn, err
}

// Try logs in as l, has the server answer that it is no standby, and hangs up.
func (s Server) Try(ctx context.Context, l Login) error {
	conn, err := s.Login(ctx, l)
	if err != nil {
		return err
	}
	defer HangUp(ctx, conn)
	if err := CheckPrimary(ctx, conn); err != nil {
		return s.loginError(l, err)
	}
	return nil
}

// refusal returns the SQLSTATE with which the server refuses the login, and an
// error when the server accepts it or when that cannot be told. What names the
// password.
func (s Server) refusal(ctx context.Context, l Login, what string) (string, error) {
	err := s.Try(ctx, l)
	switch {
	case LoginRefused(err):
		return CodeOf(err), nil
	case err != nil:
		return "", fmt.Errorf("prove that %s of %q is refused: %w", what, l.Username, err)
	}
	if s.Try(ctx, Login{Username: l.Username, Password: RandomPassword()}) == nil {
		return "", fmt.Errorf("%s lets %q in with %s, as with any password: its pg_hba.conf trusts this user, so a login proves nothing; write scram-sha-256 there", s.endpoint, l.Username, what)
	}
	return "", fmt.Errorf("%s still accepts %s of %q", s.endpoint, what, l.Username)
}

// loginError says who could not log in where, and why.
func (s Server) loginError(l Login, err error) error {
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
		answer.text += ": something between the engine and the server terminates TLS, so the two see different certificates. Let it pass TLS through; or, if it is a proxy of your own, set channel_binding=disable on the connection"
	}
	if answer.code == codeProtocolViolation && strings.Contains(answer.text, "SASL authentication failed") {
		answer.text += ": a pooler such as PgBouncer refuses the password. If it has passwords in a userlist.txt, it refuses what the engine sets: let it use auth_query (docs/postgresql.md)"
	}
	return answer
}

// HangUp closes a connection without waiting for a server that stalls, also
// when ctx has ended.
func HangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// AwaitEnd asks the server to end the session of a connection, and returns when it
// has, at most a second later. The server closes its side when nobody sees the
// session any more.
func AwaitEnd(conn *pgx.Conn) {
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

// Material is the material of everything that logs in to PostgreSQL.
func Material(username, password string) rotation.Material {
	return rotation.Material{"username": username, "password": password}
}

// ReadLogin returns the login that a material stands for.
func ReadLogin(v rotation.Material) (Login, error) {
	username, err := v.Content("username")
	if err != nil {
		return Login{}, err
	}
	password, err := v.Content("password")
	return Login{Username: username, Password: password}, err
}
