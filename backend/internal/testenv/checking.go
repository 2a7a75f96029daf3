package testenv

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// Rule says what a Checking does about a SCRAM verifier that it sees.
type Rule int

const (
	// RefuseVerifier refuses the statement that sets it, with 28000, as a hook does that
	// wants to see the password.
	RefuseVerifier Rule = iota
	// RefuseCommit refuses the COMMIT after it, as some managed servers do.
	RefuseCommit
)

// Checking stands in front of a PostgreSQL and makes of it one that checks passwords,
// and can't check a verifier. It passes on everything else.
type Checking struct {
	// Port is where it listens, at the server's address.
	Port int

	server string
	rule   Rule
	on     atomic.Bool
}

// NewChecking returns one that passes on everything until Begin. It ends with the test.
func NewChecking(t testing.TB, pg *Postgres, rule Rule) *Checking {
	t.Helper()
	listen, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(pg.Host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listen.Close() })
	c := &Checking{Port: listen.Addr().(*net.TCPAddr).Port, server: pg.Address(), rule: rule}
	go func() {
		for {
			client, err := listen.Accept()
			if err != nil {
				return
			}
			go c.serve(t.Context(), client)
		}
	}()
	return c
}

// Begin lets it check from now on.
func (c *Checking) Begin() { c.on.Store(true) }

// serve passes on one connection.
func (c *Checking) serve(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", c.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	refused := &atomic.Bool{}
	go func() {
		_ = answers(client, server, refused)
		_ = client.Close()
	}()
	_ = c.questions(client, server, refused)
}

// raise is what the server is told to do in place of a statement with a verifier.
const raise = `DO $$ BEGIN RAISE 'password must not be hashed' USING ERRCODE = '28000'; END $$`

// questions passes on what the client asks. A COMMIT that is refused is a ROLLBACK, of
// which the answer is another one.
func (c *Checking) questions(client io.Reader, server io.Writer, refused *atomic.Bool) error {
	start, err := message(client, 0)
	if err != nil {
		return err
	}
	if _, err := server.Write(start); err != nil {
		return err
	}
	seen := false
	for {
		m, err := message(client, 1)
		if err != nil {
			return err
		}
		verifier := bytes.Contains(m, []byte("SCRAM-SHA-256$"))
		seen = seen || verifier
		switch {
		case m[0] != 'Q' || !c.on.Load():
		case c.rule == RefuseVerifier && verifier:
			m = query(raise)
		case c.rule == RefuseCommit && seen && bytes.HasPrefix(m[5:], []byte("COMMIT")):
			refused.Store(true)
			m = query("ROLLBACK")
		}
		if _, err := server.Write(m); err != nil {
			return err
		}
	}
}

// answers passes on what the server says.
func answers(client io.Writer, server io.Reader, refused *atomic.Bool) error {
	for {
		m, err := message(server, 1)
		if err != nil {
			return err
		}
		if m[0] == 'C' && refused.Swap(false) {
			m = framed('E', []byte("SERROR\x00VERROR\x00C22023\x00Mpassword must not be hashed\x00\x00"))
		}
		if _, err := client.Write(m); err != nil {
			return err
		}
	}
}

// message reads one message, of which the length follows so many bytes.
func message(from io.Reader, kind int) ([]byte, error) {
	head := make([]byte, kind+4)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	body := make([]byte, max(0, int(binary.BigEndian.Uint32(head[kind:]))-4))
	_, err := io.ReadFull(from, body)
	return append(head, body...), err
}

func query(sql string) []byte { return framed('Q', append([]byte(sql), 0)) }

func framed(kind byte, body []byte) []byte {
	length := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)) //nolint:gosec // it is short
	return append(length, body...)
}
