package acceptance

import (
	"context"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TestRotateAsOne is the main job: the three secrets of an application get new
// values together, the old ones work through the overlap, and everything is on
// record.
func TestRotateAsOne(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.orders("alternating_users", map[string]any{"rotation_period": "24h"})
	e.write("config", map[string]any{"environment": "acceptance"})
	before := e.creds()
	answer := e.write("rotate", map[string]any{"reason": "acceptance test"})
	if answer["status"] != "completed" {
		t.Fatalf("rotate answered %v", answer)
	}
	after := e.creds()
	e.works(after)
	e.works(before)
	if after["db_username"] == before["db_username"] {
		t.Error("the users did not alternate")
	}
	if after["api_previous_key"] != before["api_key"] || after["jwt_previous_secret"] != before["jwt_secret"] {
		t.Error("the values from before are not offered during the overlap")
	}
	if number(t, after, "version") != number(t, before, "version")+1 {
		t.Error("the version did not grow by one")
	}
	checkJWT(t, after)
	previous := e.creds("stage", "previous")
	if previous["db_password"] != before["db_password"] {
		t.Error("stage=previous does not answer the values from before")
	}
	if same := e.read("creds", "if_version", answer["version"].(interface{ String() string }).String()); same["changed"] != false || same["db_password"] != nil {
		t.Error("if_version does not say that nothing changed")
	}
	if report := e.read("verify"); report["valid"] != true {
		t.Errorf("verify reports %v", report)
	}
	record := e.read("history/default/"+text(answer, "rotation_id"), "format", "markdown")
	for _, words := range []string{"acceptance test", "Environment: acceptance", "db (database): ✅ version", "jwt: test: ✅"} {
		if !strings.Contains(text(record, "markdown"), words) {
			t.Errorf("the record lacks %q:\n%s", words, record["markdown"])
		}
	}
	if got := len(e.history()); got != 5 {
		t.Errorf("history has %d entries, want 5", got)
	}
}

// checkJWT signs with the secret as any application would.
func checkJWT(t *testing.T, creds map[string]any) {
	t.Helper()
	key := []byte(text(creds, "jwt_secret"))
	token := jwt.NewWithClaims(jwt.GetSigningMethod(text(creds, "jwt_algorithm")), jwt.MapClaims{"sub": "test"})
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(signed, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
		t.Error(err)
	}
}

// TestFailureIsUndone rotates into a failure at the last moment, and expects
// nothing to have changed.
func TestFailureIsUndone(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"single_user", "alternating_users"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t)
			e.orders(strategy, nil)
			e.sql("CREATE TABLE {p}_secret (id int)")
			e.write("secrets/default/db", map[string]any{"verification_statements": []string{"SELECT * FROM " + e.prefix + "_secret"}})
			before := e.creds()
			cause := e.refused(unprocessable, "rotate", nil)
			for _, words := range []string{"rolled back", "secret db: test", "insufficient_privilege (SQLSTATE 42501)", "put the targets back"} {
				if !strings.Contains(cause, words) {
					t.Errorf("the answer lacks %q: %s", words, cause)
				}
			}
			after := e.creds()
			for name, value := range before {
				if name != "ttl" && after[name] != value {
					t.Errorf("%s changed", name)
				}
			}
			e.works(after)
			records := e.history()
			if last := records[len(records)-1]; last["outcome"] != "rolled_back" {
				t.Errorf("the record says %v", last["outcome"])
			}
			e.write("secrets/default/db", map[string]any{"verification_statements": []string{}})
			e.write("rotate", nil)
			e.works(e.creds())
		})
	}
}

// TestRollback goes back to values that work, as a new version, and only as long
// as there are any.
func TestRollback(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"single_user", "alternating_users"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t)
			e.orders(strategy, nil)
			if cause := e.refused(badRequest, "rollback", nil); !strings.Contains(cause, "previous value") {
				t.Error(cause)
			}
			before := e.creds()
			e.write("rotate", nil)
			between := e.creds()
			e.write("rollback", map[string]any{"reason": "trouble", "secrets": "db"})
			after := e.creds()
			e.works(after)
			if after["db_password"] != before["db_password"] || after["jwt_secret"] != between["jwt_secret"] {
				t.Error("rolling back one secret did not restore that one and leave the others")
			}
			if number(t, after, "version") != number(t, between, "version")+1 {
				t.Error("a rollback is not a new version")
			}
			e.write("rollback", map[string]any{"secrets": []string{"jwt", "api"}, "revoke_previous": true})
			last := e.creds()
			if last["jwt_secret"] != before["jwt_secret"] || last["jwt_previous_secret"] != nil {
				t.Error("rolling back with revoke_previous keeps the value it came from")
			}
			e.history()
		})
	}
}

// TestOverlapEnds waits for retirement and tries the old login.
func TestOverlapEnds(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	const overlap = 6 * time.Second
	e.orders("alternating_users", map[string]any{"rotation_period": "1h", "overlap": overlap.String(), "refresh_interval": "2s"})
	before := e.creds()
	started := time.Now()
	e.write("rotate", nil)
	if err := e.login(before); err != nil && time.Since(started) < overlap {
		t.Errorf("the login from before does not work in the overlap: %v", err)
	}
	e.eventually("retirement", time.Minute, func(context.Context) error {
		if e.creds()["jwt_previous_secret"] != nil || len(e.history()) < 6 {
			return errors.New("the previous values are still there")
		}
		return nil
	})
	e.dead(before)
	e.works(e.creds())
	records := e.history()
	if last := records[len(records)-1]; last["kind"] != "retire" || last["outcome"] != "completed" || last["trigger"] != "schedule" {
		t.Errorf("the record of the retirement is %v", last)
	}
	if cause := e.refused(badRequest, "rollback", nil); !strings.Contains(cause, "overlap has ended") {
		t.Error(cause)
	}
	if report := e.read("verify"); report["valid"] != true {
		t.Errorf("verify reports %v", report)
	}
}

// TestRevokePrevious is break-glass: the old login is refused at once.
func TestRevokePrevious(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.orders("alternating_users", nil)
	before := e.creds()
	e.write("rotate", map[string]any{"revoke_previous": true, "reason": "leaked"})
	e.dead(before)
	after := e.creds()
	e.works(after)
	if after["jwt_previous_secret"] != nil || after["api_previous_key"] != nil {
		t.Error("revoked values are still offered")
	}
}

// soak is how long TestBySchedule goes on after its first rotation.
var soak = flag.Duration("soak", 0, "how long to leave a role to itself after its first rotation by schedule")

// TestBySchedule leaves a role to itself, with the shortest period there is, and
// uses every value at the moment it is read.
func TestBySchedule(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.orders("alternating_users", map[string]any{"rotation_period": 60})
	first, started, reads := number(t, e.creds(), "version"), time.Now(), 0
	e.eventually("rotations by schedule", 2*time.Minute+*soak, func(context.Context) error {
		creds := e.creds()
		e.works(creds)
		checkJWT(t, creds)
		reads++
		if number(t, creds, "version") == first || time.Since(started) < *soak {
			return errors.New("not yet")
		}
		return nil
	})
	rotations := 0
	for _, record := range e.history() {
		if record["outcome"] != "completed" {
			t.Errorf("%s by %s: %v", record["kind"], record["trigger"], record["issues"])
		}
		if record["kind"] == "rotate" && record["trigger"] == "schedule" {
			rotations++
		}
	}
	t.Logf("in %s: %d rotations by schedule, %d reads, every value used as it was read", time.Since(started).Round(time.Second), rotations, reads)
	if rotations == 0 {
		t.Error("nothing rotated by schedule")
	}
}

// TestDryRun checks everything and changes nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.orders("alternating_users", nil)
	before := e.creds()
	if answer := e.write("rotate", map[string]any{"dry_run": true}); answer["status"] != "dry_run" {
		t.Errorf("a dry run answered %v", answer)
	}
	e.works(before)
	e.sql("ALTER ROLE {p}_admin NOCREATEROLE")
	if cause := e.refused(badRequest, "rotate", map[string]any{"dry_run": true}); !strings.Contains(cause, "CREATEROLE") {
		t.Errorf("a dry run without privileges says %s", cause)
	}
	e.sql("DROP ROLE {p}_b")
	if cause := e.refused(badRequest, "rotate", map[string]any{"dry_run": true}); !strings.Contains(cause, e.user("b")) {
		t.Errorf("a dry run without the user says %s", cause)
	}
	if got := len(e.history()); got != 4 {
		t.Errorf("history has %d entries, want 4", got)
	}
}
