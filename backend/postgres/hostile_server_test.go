package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

const impostorPassword = "the password in use"

func newImpostor(t *testing.T, script func(*front)) Server {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	expect.OK(t, err)
	t.Cleanup(func() { _ = listen.Close() })
	go func() {
		for {
			conn, err := listen.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() //nolint:errcheck // nothing depends on it
				f := &front{Conn: conn, backend: pgproto3.NewBackend(conn, conn)}
				if _, err := f.backend.ReceiveStartupMessage(); err == nil {
					script(f)
				}
			}()
		}
	}()
	s, err := NewServer(Config{Host: "127.0.0.1", Port: listen.Addr().(*net.TCPAddr).Port, Database: "d", SSLMode: "disable"})
	expect.OK(t, err)
	return s
}

// front is what an impostor has of one connection.
type front struct {
	net.Conn
	backend *pgproto3.Backend
}

// say sends messages, until the other side hangs up.
func (f *front) say(messages ...pgproto3.BackendMessage) bool {
	for _, m := range messages {
		f.backend.Send(m)
	}
	return f.backend.Flush() == nil
}

// announce sends the beginning of a message of a gigabyte, and then as much of it as
// the other side takes.
func (f *front) announce(kind byte) {
	head := []byte{kind, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[1:], 1<<30)
	_, _ = f.Write(head)
	_, _ = io.Copy(f, zeros{})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// admit does what a PostgreSQL does until it waits for a query, and reads that.
func (f *front) admit() bool {
	if !f.scram() {
		return false
	}
	f.say(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"}, &pgproto3.BackendKeyData{ProcessID: 1, SecretKey: make([]byte, 4)}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	_, err := f.backend.Receive()
	return err == nil
}

func (f *front) scram() bool {
	client, err := scram.SHA256.NewClientUnprepped("", impostorPassword, "")
	if err != nil {
		return false
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "0123456789abcdef", Iters: 4096})
	if err != nil {
		return false
	}
	side, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
	if err != nil {
		return false
	}
	exchange := side.NewConversation()
	first := f.sasl()
	if first == nil {
		return false
	}
	answer, err := exchange.Step(string(first))
	if err != nil || !f.say(&pgproto3.AuthenticationSASLContinue{Data: []byte(answer)}) {
		return false
	}
	_ = f.backend.SetAuthType(pgproto3.AuthTypeSASLContinue)
	m, err := f.backend.Receive()
	if err != nil {
		return false
	}
	answer, err = exchange.Step(string(m.(*pgproto3.SASLResponse).Data))
	return err == nil && f.say(&pgproto3.AuthenticationSASLFinal{Data: []byte(answer)})
}

// sasl asks for SCRAM and returns the client's first message.
func (f *front) sasl() []byte {
	f.say(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})
	_ = f.backend.SetAuthType(pgproto3.AuthTypeSASL)
	m, err := f.backend.Receive()
	if first, ok := m.(*pgproto3.SASLInitialResponse); err == nil && ok {
		return first.Data
	}
	return nil
}

// iterations asks for that many rounds.
func (f *front) iterations(n int) {
	_, nonce, _ := strings.Cut(string(f.sasl()), "r=")
	f.say(&pgproto3.AuthenticationSASLContinue{Data: fmt.Appendf(nil, "r=%sx,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=%d", nonce, n)})
	_, _ = f.backend.Receive()
}

// flood sends the same sort of message for ever.
func (f *front) flood(message func(n int) pgproto3.BackendMessage) {
	for n := 0; f.say(message(n)); n++ {
	}
}

func endlessNotices(int) pgproto3.BackendMessage {
	return &pgproto3.NoticeResponse{Severity: "NOTICE", Message: strings.Repeat("x", 30_000)}
}

func endlessSettings(n int) pgproto3.BackendMessage {
	return &pgproto3.ParameterStatus{Name: fmt.Sprint("setting", n), Value: strings.Repeat("x", 30_000)}
}

// TestHostileServer is about servers that would use up the plugin's memory or time, or
// learn something of a password. All end with an error that is no refusal, for less
// than what a PostgreSQL could cost.
func TestHostileServer(t *testing.T) {
	for name, test := range map[string]struct {
		script func(*front)
		want   string
	}{
		"a gigabyte for a method": {func(f *front) { f.announce('R') }, "PostgreSQL never sends"},
		"a gigabyte of error":     {func(f *front) { f.announce('E') }, "PostgreSQL never sends"},
		"a gigabyte of notice":    {func(f *front) { f.announce('N') }, "PostgreSQL never sends"},
		"a gigabyte within SCRAM": {func(f *front) { f.sasl(); f.announce('R') }, "PostgreSQL never sends"},
		"a gigabyte of setting":   {func(f *front) { f.scram(); f.say(&pgproto3.AuthenticationOk{}); f.announce('S') }, "PostgreSQL never sends"},
		"a gigabyte of answer":    {func(f *front) { f.admit(); f.announce('D') }, "did not understand"},
		"a gigabyte of columns":   {func(f *front) { f.admit(); f.announce('T') }, "did not understand"},
		"a gigabyte of refusal":   {func(f *front) { f.admit(); f.announce('E') }, "did not understand"},
		"a negative length":       {func(f *front) { _, _ = f.Write([]byte{'R', 0x80, 0, 0, 0}); _, _ = io.Copy(io.Discard, f) }, "PostgreSQL never sends"},
		"endless notices":         {func(f *front) { f.flood(endlessNotices) }, "no answer in time"},
		"endless settings":        {func(f *front) { f.flood(endlessSettings) }, "PostgreSQL never sends"},
		"settings in an answer":   {func(f *front) { f.admit(); f.flood(endlessSettings) }, "did not understand"},
		"2^31 iterations":         {func(f *front) { f.iterations(1 << 31) }, "iterations"},
		"10 million iterations":   {func(f *front) { f.iterations(10_000_000) }, "iterations"},
		"lets everybody in": {func(f *front) {
			f.say(&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
			_, _ = f.backend.Receive()
		}, "trust"},
		"lets in before it has proved itself": {func(f *front) {
			f.sasl()
			f.say(&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
			_, _ = f.backend.Receive()
		}, "did not understand"},
		"proves nothing": {func(f *front) {
			f.iterations(1)
			f.say(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=AAAA")}, &pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
			_, _ = f.backend.Receive()
		}, "did not understand"},
		"asks for MD5":        {func(f *front) { f.say(&pgproto3.AuthenticationMD5Password{}); f.refuse(t) }, "password_encryption = 'scram-sha-256'"},
		"asks for clear text": {func(f *front) { f.say(&pgproto3.AuthenticationCleartextPassword{}); f.refuse(t) }, "password_authentication=password"},
		"asks for Kerberos":   {func(f *front) { f.say(&pgproto3.AuthenticationGSS{}); f.refuse(t) }, "another method"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newImpostor(t, test.script)
			began, before := time.Now(), allocated()
			err := s.Try(t.Context(), Login{"somebody", impostorPassword})
			if err == nil || !strings.Contains(err.Error(), test.want) || LoginRefused(err) || errors.Is(err, rotation.ErrRefused) {
				t.Errorf("got %v, want that it says %q", err, test.want)
			}
			if cost := allocated() - before; cost > 256<<20 {
				t.Errorf("it cost %d MiB", cost>>20)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// refuse sees that the other side gives nothing away: it hangs up.
func (f *front) refuse(t *testing.T) {
	if given, err := io.ReadAll(f); len(given) > 0 {
		t.Errorf("the server was given %d bytes (%v)", len(given), err)
	}
}

// allocated is what this process has of the operating system, in bytes.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys
}

// TestHostileArrays answers a question for a list with one that claims to be long.
func TestHostileArrays(t *testing.T) {
	const texts = 1009
	claims := binary.BigEndian.AppendUint32(nil, 1)
	claims = binary.BigEndian.AppendUint32(claims, 0)
	claims = binary.BigEndian.AppendUint32(claims, 25)
	claims = binary.BigEndian.AppendUint32(claims, 1<<31-1)
	claims = binary.BigEndian.AppendUint32(claims, 1)
	for name, answer := range map[string]struct {
		format int16
		value  []byte
	}{
		"as text": {0, []byte("[1:2147483647]={a}")},
		"binary":  {1, claims},
	} {
		t.Run(name, func(t *testing.T) {
			s := newImpostor(t, func(f *front) {
				for ok := f.admit(); ok; {
					ok = f.say(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("x"), DataTypeOID: texts, Format: answer.format}}},
						&pgproto3.DataRow{Values: [][]byte{answer.value}}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
					_, err := f.backend.Receive()
					ok = ok && err == nil
				}
			})
			conn, err := s.Login(t.Context(), Login{"somebody", impostorPassword})
			expect.OK(t, err)
			defer HangUp(t.Context(), conn)
			before := allocated()
			var list []string
			err = QueryRow(t.Context(), conn, "SELECT $1::text[]", []any{[]string{"a"}}, &list)
			if err == nil || errors.Is(err, pgx.ErrNoRows) {
				t.Errorf("%d texts were read, and the error %v", len(list), err)
			}
			if cost := allocated() - before; cost > 64<<20 {
				t.Errorf("it cost %d MiB", cost>>20)
			}
		})
	}
}
