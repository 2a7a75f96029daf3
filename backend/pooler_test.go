package backend

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// pooler is a PgBouncer that logs in with what its clients have proved.
type pooler struct {
	*server
	port int
}

// client logs in through the pooler.
func (p pooler) client(user, password any, database string) *pgx.Conn {
	p.Helper()
	config, err := pgx.ParseConfig(pgtest.Shared.DSN(fmt.Sprint(user), fmt.Sprint(password), database))
	if err != nil {
		p.Fatal(err)
	}
	config.Port, config.Fallbacks = uint16(p.port), nil //nolint:gosec // it is a port
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	ctx, cancel := context.WithTimeout(p.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// reconnect has the pooler give up the connections to the server that it has.
func (p pooler) reconnect() {
	p.Helper()
	if _, err := p.client(testenv.Superuser, pgtest.Shared.Password, "pgbouncer").Exec(p.Context(), "RECONNECT"); err != nil {
		p.Fatal(err)
	}
}

// TestPoolersKeepLoggingIn has clients that logged in through PgBouncer before values
// were set again. It goes on to log in to PostgreSQL with what they have proved then.
func TestPoolersKeepLoggingIn(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	p := pooler{s, testenv.NewBouncer(t, pgtest.Shared, "pool_mode = transaction")}
	creds := m.read("creds/r", nil)
	held := map[string]*pgx.Conn{}
	for _, name := range []string{"one", "two"} {
		held[name] = p.client(creds[name+"_username"], creds[name+"_password"], "postgres")
	}
	answers := func(how, name string, conn *pgx.Conn) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
			t.Errorf("%s, secret %s: %v", how, name, err)
		}
	}
	works := func(how string) {
		t.Helper()
		p.reconnect()
		for name, conn := range held { // before anybody logs in anew
			answers(how+", the client of before", name, conn)
		}
		for name := range held {
			answers(how+", another client", name, p.client(creds[name+"_username"], creds[name+"_password"], "postgres"))
		}
	}
	works("at first")
	m.write("rotate/r", nil)
	m.write("rollback/r", nil)
	works("rotate and roll back")
	for name := range held {
		m.write("secrets/r/"+name, d("verification_statements", "SELECT * FROM no_such_table"))
		m.fails(422, logical.UpdateOperation, "rotate/r", d("secrets", name), "undefined_table")
		m.write("secrets/r/"+name, d("verification_statements", ""))
		works("undo of " + name)
		s.sql("ALTER ROLE %s PASSWORD 'set-by-hand'", creds[name+"_username"])
		m.write("verify/r", d("repair", true))
		works("repair of " + name)
	}
}
