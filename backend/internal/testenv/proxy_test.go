package testenv

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// soon is long enough for what happens, and what does not happen is not
// waited for longer.
const soon = 200 * time.Millisecond

// TestProxy shares one server: each case has a proxy of its own.
func TestProxy(t *testing.T) {
	t.Parallel()
	pg := NewPostgres(t, PostgresOptions{TLS: true})
	must(t, pg.Exec(t.Context(), "CREATE TABLE t (n int)"))
	var roles atomic.Int32
	for name, test := range map[string]func(*testing.T, *proxied){
		"cut": testProxyCut, "stall": testProxyStall, "reset": testProxyReset,
		"cut before": testCutBefore, "cut after": testCutAfter,
		"stall before": testStallBefore, "stall after": testStallAfter,
		"commit": testCutAfterCommit, "login": testCutAfterLogin,
		"prepared": testCutAfterPrepared, "all": testTriggerOnAll, "disarmed": testDisarm,
		"TLS": testProxyTLS, "stopped": testProxyStopped,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &proxied{Postgres: pg, proxy: NewProxy(t, pg.Address()), role: fmt.Sprintf("role_%d", roles.Add(1))}
			must(t, pg.Exec(t.Context(), "CREATE ROLE "+p.role+" LOGIN PASSWORD 'old'"))
			test(t, p)
		})
	}
}

// proxied is a server behind a proxy, with a role to change.
type proxied struct {
	*Postgres
	proxy *Proxy
	role  string
}

// via returns a connection URL through the proxy.
func (p *proxied) via(user, password, sslmode string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=%s", user, password, p.proxy.Address(), sslmode)
}

// dsn is the superuser's, through the proxy and without TLS.
func (p *proxied) dsn() string { return p.via(Superuser, p.Password, "disable") }

// connect connects through the proxy.
func (p *proxied) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.dsn())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// alter changes the role's password, in the way the engine does.
func (p *proxied) alter(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "ALTER ROLE "+p.role+" PASSWORD 'new'")
	return err
}

// altered reports whether the role's password has changed, without the proxy.
func (p *proxied) altered(t *testing.T) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.DSN(p.role, "new", "postgres"))
	if err == nil {
		must(t, conn.Close(t.Context()))
	}
	return err == nil
}

func testProxyCut(t *testing.T, p *proxied) {
	conn := p.connect(t)
	p.proxy.Cut()
	if err := conn.Ping(t.Context()); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection that was cut: %v, want a reset", err)
	}
	if _, err := pgx.Connect(t.Context(), p.dsn()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, want it refused", err)
	}
	must(t, p.proxy.Heal())
	must(t, p.connect(t).Ping(t.Context()))
}

func testProxyStall(t *testing.T, p *proxied) {
	conn := p.connect(t)
	p.proxy.Stall()
	done := make(chan error, 1)
	go func() { done <- conn.Ping(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := pgx.Connect(ctx, p.dsn()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a new connection: %v, want no answer", err)
	}
	select {
	case err := <-done:
		t.Errorf("a stalled connection answers: %v", err)
	default:
	}
	must(t, p.proxy.Heal())
	must(t, <-done)
}

func testProxyReset(t *testing.T, p *proxied) {
	conn := p.connect(t)
	p.proxy.Reset()
	if err := conn.Ping(t.Context()); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	must(t, p.connect(t).Ping(t.Context()))
}

// A server with TLS gets through, but its messages are not to be read.
func testProxyTLS(t *testing.T, p *proxied) {
	conn := connect(t, p.via(Superuser, p.Password, "require"))
	must(t, p.alter(t.Context(), conn))
}

func testProxyStopped(t *testing.T, p *proxied) {
	p.connect(t)
	must(t, p.proxy.Stop())
	must(t, p.proxy.Stop())
	if n := p.proxy.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if err := p.proxy.Heal(); err == nil {
		t.Error("a stopped proxy heals")
	}
}
