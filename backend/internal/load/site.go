package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// site is where the database of a run is: on the server that runs share or, if it is to
// die, on a primary of its own that has a replica. A PgBouncer may be before it.
type site struct {
	*world
	primary, replica *testenv.Postgres
	pooler           *testenv.Program
	poolerPort       int
	poolerDir        string
}

// newSite starts what a scenario needs of its own. What it returns needs a stop also
// when there is an error.
func (w *world) newSite(ctx context.Context, sc scenario) (*site, error) {
	s := &site{world: w, primary: w.postgres}
	if !sc.failover {
		return s, nil
	}
	var err error
	if s.primary, err = testenv.StartPostgres(ctx, pairOptions); err != nil {
		return s, err
	}
	if s.replica, err = testenv.StartReplica(ctx, s.primary); err != nil {
		return s, err
	}
	// As where no commit may be lost by a failover. The replica has no setting of its own
	// like that: it waits for nobody when it is the primary.
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"} {
		if err := s.primary.Exec(ctx, sql); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *site) stop() error {
	err := errors.Join(s.pooler.Stop(), s.replica.Stop())
	if s.primary != s.postgres {
		err = errors.Join(err, s.primary.Stop())
	}
	if s.poolerDir != "" {
		err = errors.Join(err, os.RemoveAll(s.poolerDir))
	}
	return err
}

// pairOptions have a primary and its replica serve the service at ::1 and the engine at
// 127.0.0.1, so that the log tells one from the other.
var pairOptions = testenv.PostgresOptions{
	Settings: map[string]string{
		"max_connections": postgresSettings["max_connections"], "log_line_prefix": postgresSettings["log_line_prefix"],
		"listen_addresses": "127.0.0.1,::1",
	},
	HBA: []string{"host all all ::1/128 scram-sha-256"},
}

// connection says where the servers are: for the engine, and for the service.
func (s *site) connection(sc scenario) map[string]any {
	found := map[string]any{"host": s.primary.Host, "port": s.primary.Port}
	switch {
	case sc.pooler:
		found["application_port"] = s.poolerPort
	case sc.failover:
		found["host"] = s.primary.Address() + "," + s.replica.Address()
		found["application_host"] = fmt.Sprintf("[::1]:%d,[::1]:%d", s.primary.Port, s.replica.Port)
		found["target_session_attrs"] = "read-write"
	}
	return found
}

// startPooler starts the shipped PgBouncer in session mode before the database of a run.
func (s *site) startPooler(ctx context.Context, sc scenario) (err error) {
	const password = "password-of-pgbouncer-0123456789"
	if err := s.primary.Exec(ctx, "CREATE ROLE "+sc.user("bouncer")+" LOGIN PASSWORD '"+password+"'"); err != nil {
		return err
	}
	if s.poolerDir, err = os.MkdirTemp("", "smvm-load-"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	command, port, err := testenv.ShippedPgBouncer{
		Dir: s.poolerDir, Database: sc.database(), Owner: sc.user("owner"), User: sc.user("bouncer"), Password: password,
		Changes: []string{"pool_mode = transaction", "pool_mode = session"},
	}.Configure(ctx, s.primary)
	if err != nil {
		return err
	}
	s.poolerPort = port
	if s.pooler, err = testenv.StartProgram(ctx, nil, command[0], command[1:]...); err != nil {
		return err
	}
	err = eventually(ctx, "PgBouncer to listen", func(ctx context.Context) error {
		return testenv.Listens(ctx, net.JoinHostPort(s.primary.Host, strconv.Itoa(port)))
	})
	if err != nil {
		return fmt.Errorf("%w; its log ends: %s", err, s.pooler.LogTail())
	}
	return nil
}

// failOver kills the primary and promotes the replica. Without a PgBouncer, clients know
// both servers; with one, the replica takes over the primary's address.
func (s *site) failOver(ctx context.Context) error {
	if err := s.primary.Kill(); err != nil {
		return err
	}
	if s.pooler != nil {
		return s.replica.TakeOver(ctx, s.primary)
	}
	return s.replica.Promote(ctx)
}

// refused returns the log lines about logins of the run's service that were refused. In
// a log of PostgreSQL they are those from where the engine does not come from, which
// also proves that retired logins are refused.
func (s *site) refused(sc scenario) ([]string, error) {
	ofService := func(line string) bool {
		return strings.Contains(line, "@"+sc.database()+" [local] ") || strings.Contains(line, "@"+sc.database()+" ::1 ")
	}
	lines, err := s.refusedIn(s.primary.LogPath, ofService)
	if s.replica != nil {
		more, readErr := s.refusedIn(s.replica.LogPath, ofService)
		lines, err = append(lines, more...), errors.Join(err, readErr)
	}
	if s.pooler != nil {
		// Of a client it says why it closes, of itself as a client of PostgreSQL what failed.
		more, readErr := s.refusedIn(s.pooler.LogPath, func(line string) bool {
			return strings.Contains(line, "closing because") || strings.Contains(line, "server login failed")
		})
		lines, err = append(lines, more...), errors.Join(err, readErr)
	}
	return lines, err
}

func (*site) refusedIn(path string, counts func(line string) bool) (lines []string, err error) {
	log, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("look for refused logins: %w", err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "authentication failed") && counts(line) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines, nil
}
