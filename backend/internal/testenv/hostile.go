package testenv

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed hostile.sql
var hostileSQL string

// Hostile is a database whose owner lies in wait for an administrator.
type Hostile struct {
	// Database is its name.
	Database string

	t     testing.TB
	pg    *Postgres
	admin string
	// watch is a session that looks at the sequence.
	watch *pgx.Conn
	// passed is how much of the server's log was read.
	passed int64
}

// NewHostile makes a database that belongs to owner, and in which everything that a
// statement of admin could mean is shadowed, but nothing makes a session prefer the
// shadows to what they shadow: that is up to Spoil. It takes some seconds.
func NewHostile(t testing.TB, pg *Postgres, admin, owner string) *Hostile {
	t.Helper()
	h := &Hostile{Database: "hostile_" + admin, t: t, pg: pg, admin: admin}
	h.must(pg.Exec(t.Context(), fmt.Sprintf("CREATE DATABASE %s OWNER %s", quoted(h.Database), quoted(owner))))
	h.SQL("ALTER SCHEMA public OWNER TO " + quoted(owner))
	h.SQL("SET SESSION AUTHORIZATION " + quoted(owner) + ";\n" + strings.NewReplacer("{admin}", quoted(admin), "{admin_literal}", literal(admin)).Replace(hostileSQL))
	for _, schema := range []string{"evil", "public", admin} {
		made := h.number(fmt.Sprintf("SET SESSION AUTHORIZATION %s; SELECT evil.shadow(%s)", quoted(owner), literal(schema)))
		if made < 4000 {
			t.Fatalf("only %d shadows are in %s", made, schema)
		}
	}
	h.watch = h.superuser()
	t.Cleanup(func() { _ = h.watch.Close(context.Background()) })
	h.Calls()
	return h
}

// SQL runs statements in the database as a superuser, who is not lured.
func (h *Hostile) SQL(sql string) {
	h.t.Helper()
	conn := h.superuser()
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	_, err := conn.Exec(h.t.Context(), sql)
	h.must(err)
}

func (h *Hostile) superuser() *pgx.Conn {
	h.t.Helper()
	conn, err := h.pg.Connect(h.t.Context(), h.Database, map[string]string{"search_path": "pg_catalog"})
	h.must(err)
	return conn
}

// number is the last number that statements answer.
func (h *Hostile) number(sql string) (n int) {
	h.t.Helper()
	conn := h.superuser()
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	results, err := conn.PgConn().Exec(h.t.Context(), sql).ReadAll()
	h.must(err)
	_, err = fmt.Sscan(string(results[len(results)-1].Rows[0][0]), &n)
	h.must(err)
	return n
}

// Calls are the shadows that the administrator has used since the last time that they
// were asked for, and "the sequence" if that was advanced.
func (h *Hostile) Calls() (calls []string) {
	h.t.Helper()
	log, err := os.Open(h.pg.LogPath)
	h.must(err)
	defer log.Close() //nolint:errcheck // it is only read
	fresh, err := io.ReadAll(io.NewSectionReader(log, h.passed, math.MaxInt64-h.passed))
	h.must(err)
	by := []byte(" " + h.admin + "@" + h.Database + " LOG:  shadow of ")
	for line := range bytes.Lines(fresh) {
		if _, call, ok := bytes.Cut(bytes.TrimRight(line, "\n"), by); ok && !slices.Contains(calls, string(call)) {
			calls = append(calls, string(call))
		}
	}
	h.passed += int64(len(fresh))
	var stepped int
	h.must(h.watch.QueryRow(h.t.Context(), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM evil.calls").Scan(&stepped))
	if stepped > 0 {
		calls = append(calls, "the sequence")
		h.SQL("SELECT setval('evil.calls', 1, false)")
	}
	return calls
}

// Spoil gives every setting that a user may change a harmful value for the database,
// and for the administrator itself; the named ones are left as they are. Trusted are
// the roles that have the server's settings nevertheless. It returns what was spoilt.
func (h *Hostile) Spoil(trusted []string, spared ...string) (spoilt map[string]string) {
	h.t.Helper()
	conn := h.superuser()
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	trap := quoted("trap of " + h.admin)
	_, err := conn.Exec(h.t.Context(), fmt.Sprintf("CREATE ROLE %s; GRANT %s TO %s", trap, trap, quoted(h.admin)))
	h.must(err)
	spoilt = map[string]string{}
	for name, value := range h.harmful(conn) {
		if slices.Contains(spared, name) || value.harm == value.usual {
			continue
		}
		database := quoted(h.Database)
		alter := fmt.Sprintf("ALTER DATABASE %s SET %s = %s; ALTER ROLE %s SET %[2]s = %[3]s", database, name, value.harm, quoted(h.admin))
		for _, role := range append([]string{Superuser}, trusted...) {
			alter += fmt.Sprintf("; ALTER ROLE %s IN DATABASE %s SET %s = %s", quoted(role), database, name, value.usual)
		}
		_, err := conn.Exec(h.t.Context(), alter)
		h.must(err)
		spoilt[name] = value.harm
	}
	return spoilt
}

// harm is a harmful value of a setting, and the usual one, both as SQL.
type harm struct{ harm, usual string }

// harmful are values for all settings that a user may change.
func (h *Hostile) harmful(conn *pgx.Conn) map[string]harm {
	h.t.Helper()
	all := map[string]harm{
		"role": {literal("trap of " + h.admin), "none"},
		// PL/pgSQL's own, which the server knows of when it is first used.
		"plpgsql.check_asserts": {"off", "on"},
		"plpgsql.extra_errors":  {"'all'", "'none'"},
		"search_path":           {"evil, " + literal("$user") + ", public, pg_catalog", "pg_catalog"},
	}
	rows, err := conn.Query(h.t.Context(), `SELECT name, vartype, reset_val, coalesce(enumvals, '{}'), coalesce(min_val, '') FROM pg_settings
		WHERE context = 'user' AND name NOT IN ('search_path', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable')`)
	h.must(err)
	var name, kind, usual, least string
	var choices []string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind, &usual, &choices, &least}, func() error {
		all[name] = harm{literal(h.harms(name, kind, usual, least, choices)), literal(usual)}
		return nil
	})
	h.must(err)
	return all
}

// harms chooses a value.
func (h *Hostile) harms(name, kind, usual, least string, choices []string) string {
	chosen, ok := map[string]string{
		"application_name": "another", "client_encoding": "SJIS", "DateStyle": "German, DMY", "TimeZone": "Asia/Kathmandu",
		"createrole_self_grant": "set, inherit", "restrict_nonsystem_relation_kind": "view, foreign-table",
		"default_text_search_config": "pg_catalog.english", "timezone_abbreviations": "India", "local_preload_libraries": "not_there",
		"lc_monetary": "POSIX", "lc_numeric": "POSIX", "lc_time": "POSIX", "temp_tablespaces": "pg_default",
		"synchronous_commit": "off", "default_transaction_isolation": "serializable", "client_min_messages": "debug5",
		"log_parameter_max_length_on_error": "-1", "debug_parallel_query": "regress", "force_parallel_mode": "regress",
		"extra_float_digits": "-15", "password_encryption": "md5",
		// Long enough for a message that puts an end to it.
		"statement_timeout": "500", "lock_timeout": "500", "idle_in_transaction_session_timeout": "500", "idle_session_timeout": "500",
		"transaction_timeout": "500", "client_connection_check_interval": "500",
	}[name]
	switch {
	case ok:
		return chosen
	case kind == "bool":
		return map[string]string{"on": "off", "off": "on"}[usual]
	case kind == "enum":
		for _, choice := range choices {
			if choice != usual {
				return choice
			}
		}
	case (kind == "integer" || kind == "real") && least == usual:
		return "1"
	case kind == "integer" || kind == "real":
		return least
	}
	return usual
}

// Lured runs each statement in a session of the administrator as it would be without any
// protection: it has the database's settings, and means what everybody means by these
// names. It is rolled back; errors are not of interest.
func (h *Hostile) Lured(password string, statements ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	for _, sql := range statements {
		conn, err := pgx.Connect(ctx, h.pg.DSN(h.admin, password, h.Database))
		h.must(err)
		_, _ = conn.PgConn().Exec(ctx, "BEGIN READ WRITE; "+sql).ReadAll()
		_ = conn.Close(ctx)
	}
}

func (h *Hostile) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
