package backend

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// doorTo is another address of the shared PostgreSQL.
func doorTo(t *testing.T) *testenv.Proxy {
	t.Helper()
	door, err := testenv.StartProxy(t.Context(), pgtest.Shared.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = door.Stop() })
	return door
}

// ways are what readers of a role with the secrets one and two are told.
func (m *mount) ways() string {
	m.Helper()
	creds := m.read("creds/r", nil)
	return fmt.Sprint(creds["one_port"], " ", creds["two_port"])
}

// TestAMovedConnection tells readers another way only once their logins were proven
// there, and as a new version; a value of before the move keeps the way it had.
func TestAMovedConnection(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	before := m.read("creds/r", nil)
	first, second := doorTo(t), doorTo(t)
	first.Stall()
	m.write("connections/main", d("port", first.Port, "verify_connection", false, "connect_timeout", 1))
	m.boot() // what was answered before is in no memory any more
	if now := m.read("creds/r", nil); now["version"] != before["version"] || now["one_port"] != before["one_port"] || now["two_connection_string"] != before["two_connection_string"] {
		t.Errorf("a way that was not proven is told: %v", m.ways())
	}
	// It goes on to hang: where it answers, it may be proven and told before the next change.
	resp, err := m.try(logical.UpdateOperation, "connections/main", d("port", second.Port, "connect_timeout", 30))
	if m.must(resp, err); resp == nil || len(resp.Warnings) != 1 || !strings.Contains(resp.Warnings[0], "r/one, r/two get the new address") {
		t.Errorf("the write answers %v", resp)
	}
	m.eventually("the new way", func() bool { return m.ways() == fmt.Sprint(second.Port, " ", second.Port) })
	after := m.read("creds/r", nil)
	if after["version"] != before["version"].(int)+1 || after["one_password"] != before["one_password"] || after["two_password"] != before["two_password"] {
		t.Errorf("version %v became %v", before["version"], after["version"])
	}
	if previous := m.read("creds/r", d("stage", "previous")); previous["two_port"] != fmt.Sprint(second.Port) {
		t.Errorf("the previous login is told another way: %v", previous["two_port"])
	}
	if record := m.lastRecord(); record["kind"] != "move" || record["trigger"] != "connection" {
		t.Errorf("the last record is %v", record)
	}
	if err := logIn(t, after["one_username"], after["one_password"]); err != nil {
		t.Error(err)
	}
	m.wholeHistory("history/r")
}

// TestMovedBack makes no new version of what was never told another way.
func TestMovedBack(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	before := m.read("creds/r", nil)
	m.write("connections/main", d("port", 1, "verify_connection", false))
	m.write("connections/main", s.described())
	m.write("verify/r", d("repair", true))
	if now := m.read("creds/r", nil); now["version"] != before["version"] || now["one_port"] != before["one_port"] {
		t.Errorf("version %v became %v, at %s", before["version"], now["version"], m.ways())
	}
}

// TestRotationFollowsAMove rotates and rolls back where the connection leads now,
// and tells readers so, whether or not their logins were looked at.
func TestRotationFollowsAMove(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	door := doorTo(t)
	m.write("connections/main", d("port", door.Port))
	m.write("rotate/r", nil)
	if m.ways() != fmt.Sprint(door.Port, " ", door.Port) {
		t.Errorf("after a rotation readers are told %s", m.ways())
	}
	other := doorTo(t)
	m.write("connections/main", d("port", other.Port))
	m.write("rollback/r", nil)
	if m.ways() != fmt.Sprint(other.Port, " ", other.Port) {
		t.Errorf("after a rollback readers are told %s", m.ways())
	}
}

// impostor is a server that takes every login and keeps what it is sent.
type impostor struct {
	listener net.Listener
	mu       sync.Mutex
	heard    strings.Builder
}

func newImpostor(t *testing.T, answer []byte) *impostor {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go i.serve(conn, answer)
		}
	}()
	return i
}

func (i *impostor) serve(conn net.Conn, answer []byte) {
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write(answer)
	_, _ = io.Copy(i, io.LimitReader(conn, 1<<20))
}

func (i *impostor) Write(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.heard.Write(p)
}

// TestImpostor has a connection changed, unverified, to a server that takes every
// login, or asks for passwords in clear: it is told to nobody, and told nothing.
func TestImpostor(t *testing.T) {
	for name, answer := range map[string]string{
		"takes all":      "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I",
		"asks in clear":  "R\x00\x00\x00\x08\x00\x00\x00\x03",
		"asks for MD5":   "R\x00\x00\x00\x0c\x00\x00\x00\x05salt",
		"asks for SCRAM": "R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			s := m.connect()
			s.orders()
			before := m.read("creds/r", nil)
			there := newImpostor(t, []byte(answer))
			port := there.listener.Addr().(*net.TCPAddr).Port
			m.write("connections/main", d("host", "127.0.0.1", "port", port, "verify_connection", false, "connect_timeout", 1))
			m.tryLogins()
			_, _ = m.try(logical.UpdateOperation, "rotate/r", nil)
			_, _ = m.try(logical.ReadOperation, "verify/r", nil)
			if now := m.read("creds/r", nil); now["version"] != before["version"] || now["one_port"] != before["one_port"] || now["two_host"] != before["two_host"] {
				t.Errorf("readers are told %s as version %v", m.ways(), now["version"])
			}
			there.mu.Lock()
			defer there.mu.Unlock()
			for _, secret := range []string{s.password, before["one_password"].(string), before["two_password"].(string)} {
				if strings.Contains(there.heard.String(), secret) {
					t.Error("a password was sent to it")
				}
			}
		})
	}
}

// TestMoveAfterADeath has the process die between the write of the connection and the
// looks at its logins: the next one looks, and tells readers.
func TestMoveAfterADeath(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	door := doorTo(t)
	door.Stall()
	m.write("connections/main", d("port", door.Port, "verify_connection", false, "connect_timeout", 1))
	m.b.stop()
	if err := door.Heal(); err != nil {
		t.Fatal(err)
	}
	if m.ways() == fmt.Sprint(door.Port, " ", door.Port) {
		t.Error("readers are told a way that nobody has tried")
	}
	m.boot()
	// Each try that is held up for longer than connect_timeout costs 10 s more.
	m.within(50*time.Second, "the new way", func() bool { return m.ways() == fmt.Sprint(door.Port, " ", door.Port) })
}
