package testenv

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func testCutBefore(t *testing.T, p *proxied) {
	conn, trigger := p.connect(t), p.proxy.CutBefore("ALTER ROLE")
	wantReset(t, p.alter(t.Context(), conn), trigger)
	if p.altered(t) {
		t.Error("the server got the statement")
	}
	must(t, p.alter(t.Context(), p.connect(t))) // once only
}

func testCutAfter(t *testing.T, p *proxied) {
	conn, trigger := p.connect(t), p.proxy.CutAfter("ALTER ROLE")
	must(t, conn.Ping(t.Context())) // other statements pass
	wantReset(t, p.alter(t.Context(), conn), trigger)
	if !p.altered(t) {
		t.Error("the server has not applied the statement")
	}
}

func testStallBefore(t *testing.T, p *proxied) {
	testStallAt(t, p, p.proxy.StallBefore("ALTER ROLE"), false)
}

func testStallAfter(t *testing.T, p *proxied) {
	testStallAt(t, p, p.proxy.StallAfter("ALTER ROLE"), true)
}

// testStallAt checks what the server has done when the connection is frozen.
func testStallAt(t *testing.T, p *proxied, trigger *Trigger, altered bool) {
	conn, done := p.connect(t), make(chan error, 1)
	go func() { done <- p.alter(t.Context(), conn) }()
	<-trigger.Fired()
	if got := p.altered(t); got != altered {
		t.Errorf("altered: %t, want %t", got, altered)
	}
	must(t, p.connect(t).Ping(t.Context())) // other connections pass
	select {
	case err := <-done:
		t.Errorf("the stalled client has an answer: %v", err)
	default:
	}
	must(t, p.proxy.Heal())
	must(t, <-done)
	if !p.altered(t) {
		t.Error("the statement was lost")
	}
}

func testCutAfterCommit(t *testing.T, p *proxied) {
	conn := p.connect(t)
	tx, err := conn.Begin(t.Context())
	must(t, err)
	must(t, p.alter(t.Context(), conn))
	trigger := p.proxy.CutAfter("commit")
	wantReset(t, tx.Commit(t.Context()), trigger)
	if !p.altered(t) {
		t.Error("the server has not committed")
	}
}

// A login is a request too, and a refusal is an answer.
func testCutAfterLogin(t *testing.T, p *proxied) {
	for _, password := range []string{"old", "wrong"} {
		trigger := p.proxy.CutAfter("user\x00" + p.role)
		_, err := pgx.Connect(t.Context(), p.via(p.role, password, "disable"))
		wantReset(t, err, trigger)
	}
}

// The answer to a prepared statement's Parse is not the one that counts.
func testCutAfterPrepared(t *testing.T, p *proxied) {
	conn, trigger := p.connect(t), p.proxy.CutAfter("INSERT INTO t")
	_, err := conn.Exec(t.Context(), "INSERT INTO t VALUES ($1)", 42)
	wantReset(t, err, trigger)
	var n int
	must(t, connect(t, p.SuperuserDSN()).QueryRow(t.Context(), "SELECT count(*) FROM t WHERE n = 42").Scan(&n))
	if n != 1 {
		t.Errorf("the row is there %d times", n)
	}
}

func testTriggerOnAll(t *testing.T, p *proxied) {
	conn, other := p.connect(t), p.connect(t)
	cutting := p.proxy.After("ALTER ROLE", CutAll)
	wantReset(t, p.alter(t.Context(), conn), cutting)
	if err := other.Ping(t.Context()); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other connection: %v, want a reset", err)
	}
	must(t, p.proxy.Heal())
	conn = p.connect(t)
	trigger := p.proxy.Before("ALTER ROLE", StallAll)
	altering, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	altered := make(chan error, 1)
	go func() { altered <- p.alter(altering, conn) }()
	<-trigger.Fired()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := pgx.Connect(ctx, p.dsn()); err == nil {
		t.Error("a new connection is not stalled")
	}
	giveUp()
	if err := <-altered; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want no answer", err)
	}
}

func testDisarm(t *testing.T, p *proxied) {
	trigger := p.proxy.CutBefore("ALTER ROLE")
	trigger.Disarm()
	trigger.Disarm()
	conn := p.connect(t)
	must(t, p.alter(t.Context(), conn))
	p.proxy.CutBefore("ALTER ROLE") // what was sent before it does not count
	must(t, conn.Ping(t.Context()))
	select {
	case <-trigger.Fired():
		t.Error("a disarmed trigger fired")
	default:
	}
}

// wantReset checks that the client's connection was reset, by the trigger. If
// that happens while pgx waits for the answer to a simple query, it says that
// the connection is closed, and even that it is safe to retry.
func wantReset(t *testing.T, err error, trigger *Trigger) {
	t.Helper()
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, pgconn.ErrConnClosed) {
		t.Fatalf("got %v, want a reset", err)
	}
	<-trigger.Fired()
}

func TestFindPattern(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		seen, data string
		want       int
	}{
		{"", "xALTERx", 1},
		{"xAL", "TER", 0},
		{"xALTER", "x", -1},   // it is over
		{"ALTER", "ALTER", 0}, // a second one
		{"ALT", "xALTER", 1},
		{"", "ALTE", -1},
	} {
		if got := find([]byte(test.seen), []byte(test.data), []byte("ALTER")); got != test.want {
			t.Errorf("find(%q, %q) = %d, want %d", test.seen, test.data, got, test.want)
		}
	}
}
