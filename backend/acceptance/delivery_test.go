package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// shortTerms make a role that is read again every second and retires after
// twenty.
var shortTerms = map[string]any{"rotation_period": "24h", "overlap": "20s", "refresh_interval": "1s"}

// longTerms make a role that nobody would read again during a test.
var longTerms = map[string]any{"rotation_period": "24h", "overlap": "10m", "refresh_interval": "5m"}

// served is orders with a schema of the application's own, where smvm-api keeps
// its table.
func (e *engine) served(strategy string, policy map[string]any) {
	e.Helper()
	e.orders(strategy, policy)
	e.sql("CREATE SCHEMA {p} AUTHORIZATION {p}_owner", "ALTER ROLE {p}_a SET search_path = {p}, public")
	if strategy == "alternating_users" {
		e.sql("ALTER ROLE {p}_b SET search_path = {p}, public")
	}
}

// TestServiceRunsThroughRotations rotates and rolls back while requests flow: none
// fails, PostgreSQL refuses no login, and the old user's sessions are gone before
// its overlap ends.
func TestServiceRunsThroughRotations(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.served("alternating_users", shortTerms)
	s := e.approleService()
	requests := e.begin(s)
	for _, operation := range []string{"rotate", "rollback", "rotate", "rotate"} {
		answer := e.write(operation, nil)
		e.reaches(s, number(t, answer, "version"), time.Minute)
		creds := e.creds()
		requests.follow(creds)
		e.drained(text(creds, "db_username"))
	}
	requests.end(t)
	e.noRefusals()
}

// drained waits until nobody but the named user has a session.
func (e *engine) drained(user string) {
	e.Helper()
	e.eventually("the sessions of the other user to end", 20*time.Second, func(context.Context) error {
		var others int
		sql := fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE '%s\\_%%' AND usename NOT IN ('%s', '%s')", e.prefix, user, e.user("admin"))
		if err := e.query(e.postgres.SuperuserDSN(), sql, &others); err != nil {
			return err
		}
		if others > 0 {
			return fmt.Errorf("there are %d", others)
		}
		return nil
	})
}

// noRefusals fails the test if PostgreSQL refused a login of this test's users.
func (e *engine) noRefusals() {
	e.Helper()
	log, err := os.ReadFile(e.postgres.LogPath)
	if err != nil {
		e.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "authentication failed") && strings.Contains(line, `"`+e.prefix+"_") {
			e.Errorf("PostgreSQL refused a login: %s", line)
		}
	}
}

// TestServiceAsksWhenInDoubt has values turn up that the service has not read
// yet, and would not for minutes: it reads at once.
func TestServiceAsksWhenInDoubt(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.served("single_user", longTerms)
	s := e.approleService()
	before := e.creds()
	token := s.accepts(text(before, "api_key"))

	e.write("rotate", map[string]any{"secrets": "api"})
	after := e.creds()
	s.accepts(text(after, "api_key"))
	s.accepts(text(before, "api_key"))
	if _, err := s.try(http.MethodPost, "/api/token", "X-API-Key", "wrong"); err == nil {
		t.Error("a wrong API key is accepted")
	}

	e.write("rotate", map[string]any{"secrets": "jwt"})
	fresh := e.creds()
	for name, claim := range map[string]string{"of the new key": e.signed(fresh), "of the previous key": token} {
		if _, err := s.try(http.MethodGet, "/api/test", "Authorization", "Bearer "+claim); err != nil {
			t.Errorf("a token %s: %v", name, err)
		}
	}

	e.write("rotate", map[string]any{"secrets": "db"})
	e.sql(fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'", e.user("a")))
	e.eventually("new connections", time.Minute, func(context.Context) error {
		_, err := s.try(http.MethodPost, "/api/test", "X-API-Key", text(after, "api_key"))
		return err
	})
	e.reaches(s, number(t, e.creds(), "version"), time.Minute)
}

// signed is a token such as smvm-api would sign.
func (e *engine) signed(creds map[string]any) string {
	e.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(text(creds, "jwt_algorithm")), jwt.RegisteredClaims{
		Issuer: "smvm-api", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Minute)),
	})
	token.Header["kid"] = creds["jwt_kid"]
	signed, err := token.SignedString([]byte(text(creds, "jwt_secret")))
	if err != nil {
		e.Fatal(err)
	}
	remember(signed)
	return signed
}

// TestServiceForgetsRetiredKeys waits for an overlap to end, which makes no new
// version: keys that are retired are refused all the same.
func TestServiceForgetsRetiredKeys(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.served("alternating_users", map[string]any{"rotation_period": "24h", "overlap": "4s", "refresh_interval": "1s"})
	s := e.approleService()
	key := text(e.creds(), "api_key")
	token := s.accepts(key)
	e.write("rotate", nil)
	e.eventually("the retired key to be refused", time.Minute, func(context.Context) error {
		if _, err := s.try(http.MethodPost, "/api/token", "X-API-Key", key); err == nil {
			return errors.New("it is accepted")
		}
		return nil
	})
	if _, err := s.try(http.MethodGet, "/api/test", "Authorization", "Bearer "+token); err == nil {
		t.Error("a token of the retired key is accepted")
	}
	s.accepts(text(e.creds(), "api_key"))
}

// TestServiceWithoutVault takes Vault away: the service goes on, and catches up
// when it is back.
func TestServiceWithoutVault(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.served("alternating_users", shortTerms)
	s := e.approleService()
	requests := e.begin(s)
	if err := e.vault.Kill(); err != nil {
		t.Fatal(err)
	}
	e.eventually("the service to notice", time.Minute, func(context.Context) error {
		health, err := s.try(http.MethodGet, "/health", "", "")
		if err == nil && health["failed_reads"] == float64(0) {
			err = errors.New("it has not")
		}
		return err
	})
	if err := e.vault.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer := e.write("rotate", nil)
	e.reaches(s, number(t, answer, "version"), time.Minute)
	requests.end(t)
	e.noRefusals()
}
