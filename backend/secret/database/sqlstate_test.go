package database

import (
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// card is what no error may show.
const card = "4111111111111111"

// tellTales are statements that tell a row, each in another way, with the SQLSTATE and
// what is said of it. The card is in the table {t}.
var tellTales = []struct{ statement, want string }{
	{"SELECT number::uuid FROM {t}", "invalid_text_representation (SQLSTATE 22P02)"},
	{"SELECT ('x' || number)::int FROM {t}", "invalid_text_representation (SQLSTATE 22P02)"},
	{"SELECT number::int FROM {t}", "numeric_value_out_of_range (SQLSTATE 22003)"},
	{"SELECT ('{' || number)::json FROM {t}", "invalid_text_representation (SQLSTATE 22P02)"},
	{"SELECT number::date FROM {t}", "datetime_field_overflow (SQLSTATE 22008)"},
	{"SELECT 1 / (number::numeric - number::numeric) FROM {t}", "division_by_zero (SQLSTATE 22012)"},
	{"SELECT set_config('work_mem', number, true) FROM {t}", "invalid_parameter_value (SQLSTATE 22023)"},
	{"SELECT query_to_xml('SELECT ' || quote_ident(number), true, true, '') FROM {t}", "undefined_column (SQLSTATE 42703)"},
	{"SELECT number FROM {t} WHERE number ~ ('[' || number)", "invalid_regular_expression (SQLSTATE 2201B)"},
	{"INSERT INTO {t} SELECT * FROM {t}", "unique_violation (SQLSTATE 23505)"},
	{"UPDATE {t} SET number = number || 'x'", "check_violation (SQLSTATE 23514)"},
	{"DO $$ BEGIN RAISE '%', (SELECT number FROM {t}); END $$", "raise_exception (SQLSTATE P0001)"},
	{"DO $$ BEGIN RAISE 'x' USING DETAIL = (SELECT number FROM {t}), HINT = (SELECT number FROM {t}), COLUMN = (SELECT number FROM {t}), TABLE = (SELECT number FROM {t}); END $$", "raise_exception (SQLSTATE P0001)"},
	{"DO $$ BEGIN RAISE '%', (SELECT number FROM {t}) USING ERRCODE = '28P01'; END $$", "invalid_password (SQLSTATE 28P01)"},
	{"DO $$ BEGIN RAISE '%', (SELECT number FROM {t}) USING ERRCODE = '42501'; END $$", "insufficient_privilege (SQLSTATE 42501)"},
	{"DO $$ BEGIN RAISE '%', (SELECT number FROM {t}) USING ERRCODE = '57014'; END $$", "query_canceled (SQLSTATE 57014)"},
	{"DO $$ BEGIN RAISE '%', (SELECT number FROM {t}) USING ERRCODE = '40001'; END $$", "serialization_failure (SQLSTATE 40001)"},
	{"DO $$ BEGIN RAISE '%', (SELECT number FROM {t}) USING ERRCODE = '41111'; END $$", "with a SQLSTATE of its own"},
	{"DO $$ BEGIN EXECUTE (SELECT number FROM {t}); END $$", "syntax_error (SQLSTATE 42601)"},
}

// TestErrorsCarryNoData runs them as verification statements, and as rotation
// statements.
func TestErrorsCarryNoData(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	table, user := "public."+pgtest.Unique("cards"), b.User(pgtest.Unique("app"))
	b.SQL("CREATE TABLE %[1]s (number text PRIMARY KEY CHECK (length(number) < 17)); INSERT INTO %[1]s VALUES ('%[2]s'); GRANT ALL ON %[1]s TO %[3]s, %[4]s", table, card, user, postgres.QuoteName(b.Admin.Username))
	for _, tale := range tellTales {
		statement := strings.ReplaceAll(tale.statement, "{t}", table)
		d, s := b.database(Config{Usernames: []string{user}, VerificationStatements: []string{statement}})
		v, err := d.Create(t.Context(), s)
		expect.OK(t, err)
		expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
		tellsNothing(t, statement, d.Test(t.Context(), s, v), tale.want)
		d, s = b.database(Config{Usernames: []string{user}, RotationStatements: []string{"ALTER ROLE {{name}} PASSWORD {{password}}", statement}})
		tellsNothing(t, statement, d.Set(t.Context(), s, v, conformance.Unfenced), tale.want)
	}
}

func tellsNothing(t *testing.T, statement string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "4111") {
		t.Errorf("%s: got %v, want %s", statement, err, want)
	}
}

// TestCommitCarriesNoData has a trigger that speaks when the transaction commits.
func TestCommitCarriesNoData(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	table, user := "public."+pgtest.Unique("cards"), b.User(pgtest.Unique("app"))
	b.SQL(`CREATE TABLE %[1]s (number text); GRANT ALL ON %[1]s TO %[2]s;
		CREATE FUNCTION %[1]s() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''%%'', NEW.number; END';
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON %[1]s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION %[1]s()`, table, postgres.QuoteName(b.Admin.Username))
	d, s := b.database(Config{Usernames: []string{user}, RotationStatements: []string{"ALTER ROLE {{name}} PASSWORD {{password}}", "INSERT INTO " + table + " VALUES ('" + card + "')"}})
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	tellsNothing(t, "COMMIT", d.Set(t.Context(), s, v, conformance.Unfenced), "raise_exception (SQLSTATE P0001)")
}
