package preflight

import (
	"slices"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	var db Report
	fix := SQL(Say("ALTER ROLE %s NOLOGIN", Name("x")), Say("SELECT 1"))
	if db.Expect(false, "database.limit", Warning, fix, "%q has a limit", "x") || !db.Expect(true, "database.login", Error, Fix{}, "") {
		t.Error("Expect does not return what it was given")
	}
	db.Expect(true, "database.limit", Warning, Fix{}, "")
	db.Expect(false, "database.limit", Warning, fix, "%q has a limit", "x")
	db.Expect(false, "database.hba", Unknown, SQL(Say("SELECT 2")), "it can't be seen")
	report := append(Report{}, db.Of("db")...)
	report.Pass("role.overlap")
	report.Pass("role.storage")
	if !report.Ready() {
		t.Error("warnings keep a role from being ready")
	}
	report.Expect(false, "role.attention", Error, Fix{}, "it has stopped")
	if report.Ready() {
		t.Error("an error does not keep a role from being ready")
	}
	if passed := report.Passed(); !slices.Equal(passed, []string{"db: database.login", "role.overlap", "role.storage"}) {
		t.Errorf("passed are %q", passed)
	}
	if line := report.Open()[1].String(); line != `"x" has a limit; run: SET search_path = pg_catalog, pg_temp; ALTER ROLE "x" NOLOGIN; SELECT 1;` {
		t.Errorf("in one line it is %q", line)
	}
	const want = `not ready; errors: 1, warnings: 1, could not be looked at: 1, passed: 3

ERROR  role.attention
it has stopped

WARNING  db: database.limit
"x" has a limit
SET search_path = pg_catalog, pg_temp;
ALTER ROLE "x" NOLOGIN;
SELECT 1;

UNKNOWN  db: database.hba
it can't be seen
SET search_path = pg_catalog, pg_temp;
SELECT 2;

PASSED
db: database.login
the role: role.overlap, role.storage`
	if got := report.Text(); got != want {
		t.Errorf("the text is\n%s\nwant\n%s", got, want)
	}
}

func TestSubject(t *testing.T) {
	s := Subject{Mount: "smvm/", Role: "r", Until: time.Now()}
	if got := s.Write("rotate").String(); got != "vault write smvm/rotate/r" {
		t.Error(got)
	}
	if got := s.Read("verify").String(); got != "vault read smvm/verify/r" {
		t.Error(got)
	}
}
