package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestPostgresMajors(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			pg := NewPostgres(t, PostgresOptions{Major: major})
			conn := connect(t, pg.SuperuserDSN())
			var version int
			if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&version); err != nil {
				t.Fatal(err)
			}
			if version != major {
				t.Errorf("got PostgreSQL %d, want %d", version, major)
			}
			if one, other := identity(t, pg), identity(t, NewPostgres(t, PostgresOptions{Major: major})); one == other || one < 0 || other < 0 {
				t.Errorf("two servers have the identifiers %d and %d", one, other)
			}
		})
	}
}

// identity returns the system identifier.
func identity(t *testing.T, pg *Postgres) (id int64) {
	t.Helper()
	must(t, pg.Ask(t.Context(), "SELECT system_identifier FROM pg_control_system()", &id))
	return id
}

func TestPostgresRefusesWrongPassword(t *testing.T) {
	t.Parallel()
	pg := NewPostgres(t, PostgresOptions{})
	_, err := pgx.Connect(t.Context(), pg.DSN(Superuser, "wrong", "postgres"))
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "28P01" {
		t.Fatalf("got %v, want SQLSTATE 28P01", err)
	}
	var lines string
	conn := connect(t, pg.SuperuserDSN())
	const query = "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules"
	if err := conn.QueryRow(t.Context(), query).Scan(&lines); err != nil || lines != "scram-sha-256" {
		t.Errorf("methods in pg_hba.conf are %q (%v), want scram-sha-256 alone", lines, err)
	}
}

func TestPostgresTLS(t *testing.T) {
	t.Parallel()
	pg := NewPostgres(t, PostgresOptions{TLS: true, HBA: []string{"hostnossl all all 127.0.0.1/32 reject"}})
	conn := connect(t, pg.SuperuserDSN())
	var encrypted bool
	if err := conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted); err != nil || !encrypted {
		t.Errorf("encrypted: %t (%v)", encrypted, err)
	}
	address, _, _ := strings.Cut(pg.SuperuserDSN(), "?")
	for name, settings := range map[string]string{"without TLS": "sslmode=disable", "unknown CA": "sslmode=verify-full"} {
		if _, err := pgx.Connect(t.Context(), address+"?"+settings); err == nil {
			t.Errorf("%s: connected, want a refusal", name)
		}
	}
	if !strings.HasPrefix(pg.CAPEM, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("CAPEM is %q", pg.CAPEM)
	}
}

func TestPostgresKeepsData(t *testing.T) {
	t.Parallel()
	pg := NewPostgres(t, PostgresOptions{Settings: map[string]string{"application_name": "it's set"}})
	port := pg.Port
	must(t, pg.Exec(t.Context(), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)"))
	must(t, pg.Restart(t.Context()))
	must(t, pg.Exec(t.Context(), "INSERT INTO kept VALUES (2)"))
	must(t, pg.Kill())
	if err := pg.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a killed server answers")
	}
	must(t, pg.Start(t.Context()))
	conn := connect(t, pg.SuperuserDSN())
	var sum int
	must(t, conn.QueryRow(t.Context(), "SELECT sum(n) FROM kept").Scan(&sum))
	if sum != 3 || pg.Port != port {
		t.Errorf("sum %d on port %d, want 3 on port %d", sum, pg.Port, port)
	}
	if log := tail(pg.LogPath, 1<<20); !strings.Contains(log, "INSERT INTO kept VALUES (2)") {
		t.Error("the log lacks a statement")
	}
}

func TestPostgresStall(t *testing.T) {
	t.Parallel()
	pg := NewPostgres(t, PostgresOptions{})
	must(t, pg.Stall())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := pg.Exec(ctx, "SELECT 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stalled server answers: %v", err)
	}
	must(t, pg.Continue())
	must(t, pg.Exec(t.Context(), "SELECT 1"))
	must(t, pg.Stall()) // Stop must cope with it
}

func TestPostgresStopLeavesNothing(t *testing.T) {
	t.Parallel()
	pg, err := StartPostgres(t.Context(), PostgresOptions{})
	must(t, err)
	pids := append(childrenOf(pg.process.pid()), pg.process.pid(), pg.scratch.watcher.Process.Pid)
	must(t, pg.Stop())
	must(t, pg.Stop())
	checkGone(t, pids, pg.scratch.dir)
}

// TestKilledPostgresLeavesNothing stops a server that was killed, which leaves its shared
// memory behind.
func TestKilledPostgresLeavesNothing(t *testing.T) {
	t.Parallel()
	pg, err := StartPostgres(t.Context(), PostgresOptions{})
	must(t, err)
	conn := connect(t, pg.SuperuserDSN())
	must(t, pg.Exec(t.Context(), "SELECT count(*) FROM pg_stat_database"))
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", conn.PgConn().PID()))
	must(t, err)
	if strings.Contains(string(maps), "/dev/shm/PostgreSQL.") {
		t.Error("the server has memory that outlives it if it is killed")
	}
	segments := func() string {
		text, err := os.ReadFile("/proc/sysvipc/shm")
		must(t, err)
		return string(text)
	}
	pidFile, err := os.ReadFile(pg.scratch.path("data", "postmaster.pid"))
	must(t, err)
	segment := regexp.MustCompile(`(?m)^ *` + strings.Join(strings.Fields(strings.Split(string(pidFile), "\n")[6]), " +") + ` `)
	if !segment.MatchString(segments()) {
		t.Errorf("%v is not among the segments:\n%s", segment, segments())
	}
	must(t, pg.Kill())
	if !segment.MatchString(segments()) {
		t.Error("the kernel has removed the segment itself")
	}
	must(t, pg.Stop())
	if segment.MatchString(segments()) {
		t.Errorf("%v is left:\n%s", segment, segments())
	}
	checkGone(t, nil, pg.scratch.dir)
}

func TestPostgresStartError(t *testing.T) {
	t.Parallel()
	_, err := StartPostgres(t.Context(), PostgresOptions{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v, want the log's words about no_such_setting", err)
	}
	if _, err := StartPostgres(t.Context(), PostgresOptions{Major: 9}); err == nil || !strings.Contains(err.Error(), "14, 15") {
		t.Errorf("got %v, want the supported majors", err)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close(context.Background())) })
	return conn
}

func checkGone(t *testing.T, pids []int, dir string) {
	t.Helper()
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestReplica loses what was committed while a replica was disconnected, and nothing
// from before, when that takes over the address of its primary.
func TestReplica(t *testing.T) {
	t.Parallel()
	pg := NewPostgres(t, PostgresOptions{})
	replica := NewReplica(t, pg)
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return pg.Exec(ctx, "CREATE TABLE kept ()") },
		func(ctx context.Context) error { return replica.CatchUp(ctx, pg) },
		replica.Disconnect,
		func(ctx context.Context) error { return pg.Exec(ctx, "CREATE TABLE lost ()") },
		func(context.Context) error { return pg.Kill() },
		func(ctx context.Context) error { return replica.TakeOver(ctx, pg) },
		func(ctx context.Context) error { return replica.Exec(ctx, "CREATE TABLE after ()") },
	}
	for i, step := range steps {
		if err := step(t.Context()); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if replica.Address() != pg.Address() {
		t.Errorf("it answers at %s", replica.Address())
	}
	var kept, lost bool
	if err := replica.Ask(t.Context(), "SELECT to_regclass('kept') IS NOT NULL, to_regclass('lost') IS NOT NULL", &kept, &lost); err != nil || !kept || lost {
		t.Errorf("kept: %t, lost: %t (%v)", kept, lost, err)
	}
}
