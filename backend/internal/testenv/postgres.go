package testenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the name of PostgreSQL's administrator in every server of the
// harness.
const Superuser = "postgres"

// startTimeout bounds one start of a server that is installed already.
const startTimeout = 60 * time.Second

// PostgresOptions says what StartPostgres starts. The zero value is any
// supported major version, without TLS.
type PostgresOptions struct {
	// Major is the major version, 14 to 18; 0 takes what is quickest to get.
	Major int
	// TLS makes the server offer TLS with a certificate for 127.0.0.1 and
	// localhost by a CA of its own. To demand TLS, add a hostnossl line to HBA.
	TLS bool
	// Settings go into postgresql.conf, after the harness's own.
	Settings map[string]string
	// HBA are lines for pg_hba.conf, before the harness's own: the first line
	// that matches a connection decides.
	HBA []string
}

// Postgres is a running PostgreSQL server.
type Postgres struct {
	// Host and Port are where it listens. They stay the same over restarts.
	Host string
	Port int
	// Password is the superuser's, one for all servers that this process starts.
	Password string
	// Version is the server's, as 150003 for 15.3.
	Version int
	// BinDir has the server's programs; psql only where Debian installed it.
	BinDir string
	// LogPath is the server's log, with every statement it was sent.
	LogPath string
	// CAPEM is the CA's certificate and CAFile a file with it; empty without TLS.
	CAPEM, CAFile string

	scratch *scratch
	user    *syscall.Credential
	opts    PostgresOptions

	mu      sync.Mutex // held while the server is started or stopped
	process *process
}

// StartPostgres starts a new, empty PostgreSQL and returns when it answers.
// Where it has to be installed first that takes a minute or two. ctx bounds the
// start only; the server runs until Stop or until this process dies.
func StartPostgres(ctx context.Context, opts PostgresOptions) (*Postgres, error) {
	pg, err := newPostgres(ctx, opts)
	if err == nil {
		err = pg.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), pg.Stop())
	}
	return pg, nil
}

// newPostgres makes the database cluster. What it returns needs a Stop also
// when there is an error.
func newPostgres(ctx context.Context, opts PostgresOptions) (*Postgres, error) {
	bin, err := PostgresBin(ctx, opts.Major)
	if err != nil {
		return nil, err
	}
	from, err := pristine(ctx, bin)
	if err != nil {
		return nil, err
	}
	pg, err := placePostgres(ctx, bin)
	if err == nil {
		err = pg.copyCluster(ctx, from)
	}
	if err == nil {
		pg.opts = opts
		err = pg.configure()
	}
	return pg, err
}

// Start starts the server again after Shutdown or Kill, with its data.
func (pg *Postgres) Start(ctx context.Context) error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.process.running() {
		return errors.New("start PostgreSQL: it is running")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p, err := startProcess(pg.scratch, pg.command(ctx, "postgres", "-D", pg.scratch.path("data")), pg.LogPath)
	if err != nil {
		return err
	}
	pg.process = p
	ctx, release := p.whileRunning(ctx, pg.LogPath)
	defer release()
	return Eventually(ctx, "PostgreSQL to answer", func(ctx context.Context) error {
		return pg.Ask(ctx, "SELECT current_setting('server_version_num')::int", &pg.Version)
	})
}

// command prepares one of the server's programs to be run as the server's
// user. It is not killed when ctx ends.
func (pg *Postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(pg.BinDir, name), args...) //nolint:gosec // from our own scripts
	cmd.Dir = pg.scratch.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TZ=UTC", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pg.user}
	return cmd
}

// Address is where it listens, as "host:port".
func (pg *Postgres) Address() string { return net.JoinHostPort(pg.Host, strconv.Itoa(pg.Port)) }

// SocketDir is the directory with its Unix socket, over which it asks for a
// password just as well.
func (pg *Postgres) SocketDir() string { return pg.scratch.path("socket") }

// DSN returns a connection URL for a user of a database. With TLS it demands
// and verifies the server's certificate.
func (pg *Postgres) DSN(user, password, database string) string {
	query := url.Values{"sslmode": {"disable"}}
	if pg.CAFile != "" {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {pg.CAFile}}
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password),
		Host: pg.Address(), Path: "/" + database, RawQuery: query.Encode(),
	}
	return u.String()
}

// SuperuserDSN returns the superuser's connection URL for database postgres.
func (pg *Postgres) SuperuserDSN() string { return pg.DSN(Superuser, pg.Password, "postgres") }

// Exec runs SQL as the superuser in database postgres, on a connection of its
// own. Without args it may be several statements.
func (pg *Postgres) Exec(ctx context.Context, sql string, args ...any) error {
	return pg.ExecIn(ctx, "postgres", sql, args...)
}

// ExecIn is Exec in the named database.
func (pg *Postgres) ExecIn(ctx context.Context, database, sql string, args ...any) error {
	conn, err := pg.Connect(ctx, database, nil)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing depends on it
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("execute SQL: %w", err)
	}
	return nil
}

// Ask runs a query of one row as the superuser in database postgres.
func (pg *Postgres) Ask(ctx context.Context, query string, into ...any) error {
	conn, err := pg.Connect(ctx, "postgres", nil)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing depends on it
	return conn.QueryRow(ctx, query).Scan(into...)
}

// Connect opens a session of the superuser in the named database, over the Unix socket,
// which spares a handshake of TLS. The settings are for this session alone.
func (pg *Postgres) Connect(ctx context.Context, database string, settings map[string]string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("connect as superuser: %w", err)
	}
	config.Host, config.Port = pg.SocketDir(), uint16(pg.Port) //nolint:gosec // freePort's
	config.User, config.Password, config.Database = Superuser, pg.Password, database
	maps.Copy(config.RuntimeParams, settings)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect as superuser: %w", err)
	}
	return conn, nil
}
