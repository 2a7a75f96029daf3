package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestDrainConfig(t *testing.T) {
	for name, test := range map[string]struct {
		end     string
		timeout int
		words   []string
	}{
		"unknown":            {"kill", 0, []string{"on_overlap_end", "kill", "terminate"}},
		"nothing to wait":    {"", 60, []string{"drain_timeout", "wait"}},
		"no wait":            {"terminate", 60, []string{"drain_timeout", "wait"}},
		"longer than a day":  {"wait", 86401, []string{"drain_timeout", "24h"}},
		"negative":           {"wait", -1, []string{"drain_timeout"}},
		"longer than a year": {"wait", 1 << 62, []string{"drain_timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Connection: "c", Usernames: []string{"a"}, OnOverlapEnd: test.end, DrainTimeout: test.timeout}
			expect.Invalid(t, (&driver{}).Validate(conformance.SecretOf(t, "database", c).Config), test.words...)
		})
	}
	for _, c := range []Config{{}, {OnOverlapEnd: "wait"}, {OnOverlapEnd: "wait", DrainTimeout: 86400}, {OnOverlapEnd: "terminate"}} {
		c.Connection, c.Usernames = "c", []string{"a"}
		expect.OK(t, (&driver{}).Validate(conformance.SecretOf(t, "database", c).Config))
	}
}

// rotateInUse gives s a current and a previous value, and returns a session that
// logged in before and one that logged in after.
func (b *bench) rotateInUse(d *driver, s *rotation.Secret) (before, after *pgx.Conn) {
	b.T.Helper()
	first := b.next(d, *s)
	s.Current = b.Value(first)
	before = b.OpenWith(first["username"], first["password"])
	b.ages()
	between := time.Now()
	second := b.next(d, *s)
	s.Previous, s.Current = s.Current, b.Value(second)
	s.Previous.Replaced, s.Previous.RetireTime = between.Add(-cutOverPrecision), between
	b.Postgres.Now = time.Now
	after = b.OpenWith(second["username"], second["password"])
	return before, after
}

// ages returns when a session that was opened before is old enough to tell it from
// one that is opened after, however slow this machine is.
func (b *bench) ages() {
	b.T.Helper()
	opened := time.Now()
	expect.OK(b.T, testenv.Eventually(b.T.Context(), "time to pass", func(context.Context) error {
		if time.Since(opened) < time.Second {
			return errors.New("not yet")
		}
		return nil
	}))
}

// next sets a new value.
func (b *bench) next(d *driver, s rotation.Secret) rotation.Material {
	b.T.Helper()
	v, err := d.Create(b.T.Context(), s)
	expect.OK(b.T, err)
	expect.OK(b.T, d.Set(b.T.Context(), s, v, conformance.Unfenced))
	return v
}

func (b *bench) wantSessions(d *driver, s rotation.Secret, want int) {
	b.T.Helper()
	if got, err := d.Sessions(b.T.Context(), s); err != nil || got != want {
		b.T.Errorf("%d sessions are seen, %v; want %d", got, err, want)
	}
}

func alive(t testing.TB, conn *pgx.Conn, want bool) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), "SELECT 1"); (err == nil) != want {
		t.Errorf("the session answers %v", err)
	}
}

// TestTerminateMinimalGrants ends sessions on every major version, as an
// administrator who was given what Preflight asks for and no more.
func TestTerminateMinimalGrants(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.OfMajor(t, major)
			t.Run("alternating", func(t *testing.T) {
				b := newBench(t, pg)
				d, s := b.database(Config{Usernames: b.Pair(pgtest.Unique(`a"`), pgtest.Unique(`b'`)), OnOverlapEnd: "terminate"})
				b.terminates(d, s, 1)
			})
			t.Run("single", func(t *testing.T) {
				b := newBench(t, pg)
				d, s := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}, OnOverlapEnd: "terminate"})
				b.terminates(d, s, 2)
			})
		})
	}
}

// terminates also checks how many grants had to be made before.
func (b *bench) terminates(d *driver, s rotation.Secret, grants int) {
	t := b.T
	t.Helper()
	before, after := b.rotateInUse(d, &s)
	other := b.Open(b.User(pgtest.Unique("other")))
	_, err := d.Terminate(t.Context(), s, conformance.Unfenced)
	if err == nil || !strings.Contains(err.Error(), "pg_") {
		t.Errorf("without privileges: %v", err)
	}
	alive(t, before, true)
	if ran := b.followUntilContent(d, &s); strings.Count(strings.Join(ran, " "), "GRANT ") != grants {
		t.Errorf("%q was needed, want %d grants", ran, grants)
	}
	b.wantSessions(d, s, 1)
	if n, err := d.Terminate(t.Context(), s, func(context.Context) error { return errors.New("deposed") }); err == nil {
		t.Errorf("a deposed node has ended %d sessions", n)
	}
	alive(t, before, true)
	for want := 1; want >= 0; want-- {
		if n, err := d.Terminate(t.Context(), s, conformance.Unfenced); n != want || err != nil {
			t.Errorf("ended %d sessions, %v; want %d", n, err, want)
		}
	}
	alive(t, before, false)
	alive(t, after, true)
	alive(t, other, true)
	b.wantSessions(d, s, 0)
}

// TestWaitMinimalGrants is about what waiting needs.
func TestWaitMinimalGrants(t *testing.T) {
	for name, grants := range map[string]int{"alternating": 0, "single": 1} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, pgtest.Shared)
			users := b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))[:2-grants]
			d, s := b.database(Config{Usernames: users, OnOverlapEnd: "wait"})
			before, _ := b.rotateInUse(d, &s)
			if _, err := d.Sessions(t.Context(), s); (err == nil) != (grants == 0) {
				t.Errorf("without privileges: %v", err)
			}
			if ran := b.followUntilContent(d, &s); len(ran) != grants {
				t.Errorf("%q were needed", ran)
			}
			b.wantSessions(d, s, 1)
			expect.OK(t, before.Close(t.Context()))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			expect.OK(t, testenv.Eventually(ctx, "the end of the session", func(ctx context.Context) error {
				if n, err := d.Sessions(ctx, s); err != nil || n != 0 {
					return fmt.Errorf("%d sessions, %w", n, err)
				}
				return nil
			}))
		})
	}
}

// TestTerminateAsMember has an administrator who is a member of the user instead.
func TestTerminateAsMember(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	b.SQL("GRANT %s TO %s", user, b.Admin.Username)
	d, s := b.database(Config{Usernames: []string{user}, OnOverlapEnd: "terminate"})
	before, after := b.rotateInUse(d, &s)
	if ran := b.followUntilContent(d, &s); len(ran) > 0 {
		t.Errorf("%q were needed", ran)
	}
	if n, err := d.Terminate(t.Context(), s, conformance.Unfenced); n != 1 || err != nil {
		t.Errorf("ended %d sessions, %v", n, err)
	}
	alive(t, before, false)
	alive(t, after, true)
}

// TestTerminateCountsNoProof has the engine's own logins gone when sessions are
// counted: those within the second of the cut-over would count as old ones.
func TestTerminateCountsNoProof(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	d, s := b.database(Config{Usernames: []string{user}, OnOverlapEnd: "terminate"})
	s.Current = b.Value(b.next(d, s))
	super := pgtest.Connect(t, b.PG)
	judged := 0
	for range 100 {
		began := time.Now()
		expect.OK(t, d.Test(t.Context(), s, s.Current.Material))
		slow := time.Since(began) > time.Second // the end of a session is waited for no longer than that
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		expect.OK(t, testenv.Eventually(ctx, "no session of a login that proved the password", func(ctx context.Context) error {
			var open int
			err := postgres.QueryRow(ctx, super, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", []any{user}, &open)
			if err == nil && open > 0 {
				if !slow {
					t.Fatalf("%d sessions of logins that proved the password are open", open)
				}
				err = fmt.Errorf("%d are open", open)
			}
			return err
		}))
		if !slow {
			judged++
		}
	}
	if judged < 50 {
		t.Errorf("only %d logins were fast enough to tell", judged)
	}
}
