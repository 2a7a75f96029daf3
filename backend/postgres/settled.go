package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Setting is a setting of PostgreSQL that every session of the administrator has as
// the engine wants it.
type Setting struct {
	Name string
	// Values are more than one only where the setting is a list.
	Values []string
	// Since is the first major version that has it in all of its releases; 0 if all
	// supported ones have.
	Since int
}

// Settled are the settings that the owner of a database (ALTER DATABASE … SET), or the
// administrator itself (ALTER ROLE … SET), may have made something else of, and that
// change what a statement means or answers, what is logged of it, or whether it ends.
// What is not here changes how fast an answer comes, at most; a test asks that of every
// setting that a user may change. The order is that of the statements: what could end
// the transaction comes first, then who acts and what names mean.
var Settled = []Setting{
	// Whether it ends. The server gives up on a statement after 10 s and on a lock
	// after 5 s. It rolls back when it hears nothing for 5 s, so that an engine that
	// was paused in between cannot commit a password long after another one was
	// decided upon. A slow network is no reason to hang up, nor is an error: what
	// comes after it is still to be told.
	one("statement_timeout", "10000"),
	one("lock_timeout", "5000"),
	one("idle_in_transaction_session_timeout", "5000"),
	from(17, "transaction_timeout", "0"),
	one("tcp_user_timeout", "0"),
	one("tcp_keepalives_idle", "30"),
	one("tcp_keepalives_interval", "10"),
	one("tcp_keepalives_count", "3"),
	one("exit_on_error", "off"),

	// No query is run twice, so that none is worth compiling.
	one("jit", "off"),

	// Who acts, on what: the administrator itself, and on PostgreSQL's own objects
	// unless a name says otherwise. Temporary ones come last, where they would be
	// first if they were not named.
	one("role", "none"),
	{Name: "search_path", Values: []string{"pg_catalog", "pg_temp"}},
	one("row_security", "on"),
	from(17, "restrict_nonsystem_relation_kind", ""),

	// How a text is read. The engine quotes for these, and in another encoding what it
	// has quoted may end elsewhere.
	one("client_encoding", "UTF8"),
	one("standard_conforming_strings", "on"),
	one("backslash_quote", "safe_encoding"),
	one("transform_null_equals", "off"),
	one("array_nulls", "on"),
	one("xmloption", "content"),

	// How an answer is written, which the engine reads as text.
	{Name: "DateStyle", Values: []string{"ISO", "MDY"}},
	one("IntervalStyle", "postgres"),
	one("TimeZone", "UTC"),
	one("bytea_output", "hex"),
	one("xmlbinary", "base64"),
	one("extra_float_digits", "1"),
	one("quote_all_identifiers", "off"),
	one("gin_fuzzy_search_limit", "0"),
	from(15, "stats_fetch_consistency", "cache"),

	// What is told. The trees of a statement hold the password, in clear text or as a
	// verifier, and go to the log; nobody reads notices.
	one("debug_print_parse", "off"),
	one("debug_print_rewritten", "off"),
	one("debug_print_plan", "off"),
	one("log_parameter_max_length_on_error", "0"),
	one("client_min_messages", "error"),

	// What is made of a password that the server is given in clear text.
	one("password_encryption", "scram-sha-256"),
	from(16, "scram_iterations", "4096"),

	// What a statement of others makes, who gets it, and whether what guards it does.
	from(16, "createrole_self_grant", ""),
	one("check_function_bodies", "on"),
	one("plpgsql.check_asserts", "on"),
	one("plpgsql.extra_errors", "none"),
	one("default_tablespace", ""),
	one("temp_tablespaces", ""),

	// What transactions begin as; each says it for itself, too.
	one("default_transaction_isolation", "read committed"),
	one("default_transaction_read_only", "off"),
	one("default_transaction_deferrable", "off"),
}

func one(name, value string) Setting { return Setting{Name: name, Values: []string{value}} }

func from(major int, name, value string) Setting {
	return Setting{Name: name, Values: []string{value}, Since: major}
}

// namesMean is the last setting that a utility command of its own sets.
const namesMean = "search_path"

// command sets it until the transaction ends. Being a utility command it resolves no
// name, and none of its literals has a backslash.
func (s Setting) command() string {
	quoted := make([]string, len(s.Values))
	for i, value := range s.Values {
		quoted[i] = QuoteLiteral(value)
	}
	return "SET LOCAL " + s.Name + " = " + strings.Join(quoted, ", ")
}

// call does the same, once names mean what they are to mean.
func (s Setting) call() string {
	return "pg_catalog.set_config(" + QuoteLiteral(s.Name) + ", " + QuoteLiteral(strings.Join(s.Values, ", ")) + ", true)"
}

// beginsWith are the parameters with which a session says who it is.
var beginsWith = map[string]string{"application_name": "smvm"}

// beginsSettled are those with which a session of the administrator begins: they win
// over what was set for the database and the role. A session that has them loads no
// library of others and may idle between transactions, which no transaction can say.
// The major version is not known by then.
func beginsSettled() map[string]string {
	parameters := maps.Clone(beginsWith)
	parameters["local_preload_libraries"], parameters["idle_session_timeout"] = "", "0"
	for _, s := range Settled {
		if s.Since == 0 {
			parameters[s.Name] = strings.Join(s.Values, ",")
		}
	}
	return parameters
}

// opening is the message that begins a transaction of the administrator on a server of
// that major version, which may be 0 if it is not known. No name is resolved before
// names mean what they are to mean; what follows is one statement, which costs the
// server a third of what forty do. It answers how durable a commit is to be.
func opening(access string, major int) string {
	statements := []string{"BEGIN ISOLATION LEVEL READ COMMITTED, " + access + ", NOT DEFERRABLE"}
	var calls []string
	byCommand := true
	for _, s := range Settled {
		switch {
		case s.Since > major:
		case byCommand:
			statements = append(statements, s.command())
			byCommand = s.Name != namesMean
		default:
			calls = append(calls, s.call())
		}
	}
	return strings.Join(append(statements, "SELECT "+strings.Join(calls, ", "), "SHOW synchronous_commit"), "; ")
}

// majorVersion is what the server, or a pooler for it, has said when the session began;
// 0 if it said nothing of the kind.
func majorVersion(conn *pgx.Conn) int {
	version := conn.PgConn().ParameterStatus("server_version")
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	major, _ := strconv.Atoi(version[:end])
	return major
}

// durable makes a commit be on disk before it is acknowledged where that is not so
// already, by what came last of the opening. More than that is left as it is.
func durable(ctx context.Context, conn *pgx.Conn, opened string) error {
	switch opened {
	case "":
		return errors.New("begin transaction: the server does not report its synchronous_commit")
	case "off":
	default:
		return nil
	}
	if err := Execute(ctx, conn, "SET LOCAL synchronous_commit = on"); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	return nil
}
