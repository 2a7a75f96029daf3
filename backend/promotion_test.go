package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
)

// pairOfServers is a primary, and a replica that streams from it.
type pairOfServers struct {
	*mount
	primary, replica *testenv.Postgres
	alerts           *receiver
}

// newPairOfServers has the role r on a primary and a replica, with both strategies, and
// somebody who is told what happens.
func newPairOfServers(t *testing.T) *pairOfServers {
	t.Helper()
	p := &pairOfServers{mount: newMount(t), primary: testenv.NewPostgres(t, testenv.PostgresOptions{}), alerts: newReceiver(t)}
	p.do(p.primary.Exec(t.Context(), `CREATE ROLE smvm_admin LOGIN CREATEROLE PASSWORD 'first'; CREATE ROLE single LOGIN;
		CREATE ROLE owner NOLOGIN; CREATE ROLE a LOGIN IN ROLE owner; CREATE ROLE b LOGIN IN ROLE owner`))
	var version int
	p.do(p.primary.Ask(t.Context(), "SELECT current_setting('server_version_num')::int", &version))
	if version >= 160000 {
		p.do(p.primary.Exec(t.Context(), "GRANT single, a, b TO smvm_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"))
	}
	p.replica = testenv.NewReplica(t, p.primary)
	p.write("alerts/hook", d("type", "webhook", "url", p.alerts.URL+"/hook", "events", "target_refuses,target_accepts"))
	p.write("connections/main", d("host", p.primary.Address()+","+p.replica.Address(), "database", "postgres", "sslmode", "disable",
		"target_session_attrs", "read-write", "username", "smvm_admin", "password", "first", "allowed_roles", "*", "connect_timeout", 10))
	p.write("roles/r", d("rotation_period", "1h"))
	p.write("secrets/r/one", d("type", "database", "connection", "main", "usernames", "single"))
	p.write("secrets/r/two", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", "a,b"))
	return p
}

// soon is eventually with the time that a watch of several servers may take.
func (p *pairOfServers) soon(what string, check func() bool) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 3*time.Minute)
	defer cancel()
	p.do(testenv.Eventually(ctx, what, func(context.Context) error {
		if !check() {
			return errors.New("not yet")
		}
		return nil
	}))
}

func (p *pairOfServers) do(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// lose loses what rotate does: the primary dies, and a replica that lagged is
// promoted. It returns when that
// was.
func (p *pairOfServers) lose(rotate func()) time.Time {
	p.Helper()
	p.do(p.replica.CatchUp(p.Context(), p.primary))
	p.do(p.replica.Disconnect(p.Context()))
	rotate()
	p.do(p.primary.Kill())
	p.do(p.replica.Promote(p.Context()))
	return time.Now()
}

func (p *pairOfServers) advice() string {
	p.Helper()
	return fmt.Sprint(p.read("status/r", nil)["advice"])
}

// logsIn tries what readers get at the server that is the primary now.
func (p *pairOfServers) logsIn(secret string) error {
	creds := p.read("creds/r", nil)
	return p.replica.TryLogin(p.Context(), fmt.Sprint(creds[secret+"_username"]), fmt.Sprint(creds[secret+"_password"]))
}

// TestPromotionThatForgot has the latest passwords lost by a promotion: that is found by
// itself, soon, said wherever somebody looks, and over when they are set again.
func TestPromotionThatForgot(t *testing.T) {
	p := newPairOfServers(t)
	creds := p.read("creds/r", nil)
	if creds["one_host"] != "127.0.0.1,127.0.0.1" || creds["one_port"] != fmt.Sprintf("%d,%d", p.primary.Port, p.replica.Port) || creds["two_target_session_attrs"] != "read-write" {
		t.Errorf("readers are told %v, %v, %v", creds["one_host"], creds["one_port"], creds["two_target_session_attrs"])
	}
	conn, err := pgx.Connect(t.Context(), fmt.Sprint(creds["two_connection_string"]))
	p.do(err)
	p.do(conn.Close(t.Context()))
	since := p.lose(func() { p.write("rotate/r", nil) })
	p.soon("that it is found", func() bool {
		return strings.Contains(p.advice(), "secret one") && strings.Contains(p.advice(), "secret two")
	})
	t.Logf("it was found %s after the promotion", time.Since(since).Round(100*time.Millisecond))
	for _, words := range []string{"the current value", "verify/r with repair=true"} {
		if !strings.Contains(p.advice(), words) {
			t.Errorf("the advice lacks %q: %s", words, p.advice())
		}
	}
	for _, line := range []string{`smvm_target_refuses{name="r",subject="role"} 1`, `smvm_target_refuses{name="main",subject="connection"} 0`, `smvm_subjects_in_state{state="target_refuses",subject="role"} 1`} {
		if !strings.Contains(p.scrape(), line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	p.receives(p.alerts, notify.TargetRefuses)
	if p.logsIn("one") == nil {
		t.Error("it was set again, which nobody has asked for")
	}
	p.noted("refused")
	p.boot() // another node knows nothing of it yet
	p.tick(0)
	p.soon("that the next node finds it", func() bool { return strings.Contains(p.advice(), "secret two") })
	p.write("verify/r", d("repair", true))
	p.do(p.logsIn("one"))
	p.do(p.logsIn("two"))
	p.receives(p.alerts, notify.TargetRefuses, notify.TargetAccepts)
	if p.advice() != "" || !strings.Contains(p.scrape(), `smvm_target_refuses{name="r",subject="role"} 0`) {
		t.Errorf("afterwards the advice is %q", p.advice())
	}
	p.write("rotate/r", nil)
	p.wholeHistory("history/r")
}

// TestPromotionThatForgotIsRepaired is the same with on_drift=repair: it is set again by
// itself, the record says so, and who is told hears of both.
func TestPromotionThatForgotIsRepaired(t *testing.T) {
	p := newPairOfServers(t)
	p.write("config", d("on_drift", "repair"))
	since := p.lose(func() { p.write("rotate/r", nil) })
	p.soon("that it is repaired", func() bool { return p.logsIn("one") == nil && p.logsIn("two") == nil })
	t.Logf("it was repaired %s after the promotion", time.Since(since).Round(100*time.Millisecond))
	p.receives(p.alerts, notify.TargetRefuses, notify.TargetAccepts)
	var found []string
	for _, id := range p.list("history/r") {
		record := p.read("history/r/"+id, nil)
		found = append(found, fmt.Sprint(record["kind"], " ", record["trigger"], " ", record["outcome"]))
	}
	if !slices.Contains(found, "repair drift completed") {
		t.Errorf("the history is %v", found)
	}
	if p.advice() != "" {
		t.Errorf("afterwards the advice is %q", p.advice())
	}
}

// TestPromotionThatForgotTheAdministrator loses the administrator's password too, so
// that nothing can be set again: what helps is said, and nobody is hammered.
func TestPromotionThatForgotTheAdministrator(t *testing.T) {
	p := newPairOfServers(t)
	p.write("config", d("on_drift", "repair"))
	p.do(p.primary.Exec(t.Context(), "CREATE ROLE kept LOGIN; GRANT kept TO smvm_admin WITH ADMIN OPTION"))
	p.write("roles/kept", nil)
	p.write("secrets/kept/db", d("type", "database", "connection", "main", "usernames", "kept"))
	p.lose(func() { p.write("rotate-root/main", nil); p.write("rotate/r", nil) })
	p.soon("that it is found", func() bool {
		return strings.Contains(fmt.Sprint(p.read("connections/main", nil)["advice"]), "connections/main") && strings.Contains(p.advice(), "secret one")
	})
	p.receives(p.alerts, notify.TargetRefuses, notify.TargetRefuses) // the connection's and the role's
	for _, id := range p.list("history/r") {
		if record := p.read("history/r/"+id, nil); record["kind"] == "repair" {
			t.Errorf("a repair was tried, which could not work: %v", record)
		}
	}
	p.do(p.replica.Exec(t.Context(), "ALTER ROLE smvm_admin PASSWORD 'second'"))
	p.write("connections/main", d("username", "smvm_admin", "password", "second"))
	p.soon("that it is repaired", func() bool { return p.logsIn("one") == nil && p.logsIn("two") == nil })
}

// TestAStandby has nobody told to use a server on which nothing can be changed: it is
// refused where it is written, or if it did not answer then, status says so until it is a
// primary.
func TestAStandby(t *testing.T) {
	p := newPairOfServers(t)
	p.write("connections/main", d("host", p.primary.Host, "port", p.primary.Port, "target_session_attrs", ""))
	told := func(port int) func() bool {
		return func() bool { return p.ways() == fmt.Sprint(port, " ", port) }
	}
	p.soon("the address of the primary alone", told(p.primary.Port))
	p.do(p.replica.CatchUp(t.Context(), p.primary))
	for _, verified := range []bool{true, false} {
		p.refused(logical.UpdateOperation, "connections/main", d("port", p.replica.Port, "verify_connection", verified), "host:", "is a standby", "give the address of the primary", "Nothing was stored")
	}
	url := fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/postgres?sslmode=disable", p.replica.Address())
	p.refused(logical.CreateOperation, "connections/other", d("connection_url", url, "username", "smvm_admin", "password", "first"), "connection_url:", "is a standby")
	door, err := testenv.StartProxy(t.Context(), p.replica.Address())
	p.do(err)
	t.Cleanup(func() { _ = door.Stop() })
	door.Stall()
	p.write("connections/main", d("port", door.Port, "verify_connection", false, "connect_timeout", 1))
	p.do(door.Heal())
	p.soon("that it is found to be a standby", func() bool { return strings.Contains(p.advice(), "is a standby") })
	if !told(p.primary.Port)() || !strings.Contains(p.advice(), "connections/main") {
		t.Errorf("readers are told %s, and the advice is %s", p.ways(), p.advice())
	}
	p.do(p.replica.Promote(t.Context()))
	p.soon("the address of the new primary", told(door.Port))
	p.soon("that there is nothing to do", func() bool { return p.advice() == "" })
}
