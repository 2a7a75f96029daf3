package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// answers are what a server may say for ever, once somebody has logged in.
var answers = map[string]func(n int) pgproto3.BackendMessage{
	"rows": func(n int) pgproto3.BackendMessage {
		return &pgproto3.DataRow{Values: [][]byte{fmt.Appendf(nil, "user%d%s", n, strings.Repeat("x", 1000)), []byte("1"), nil}}
	},
	"results":     func(int) pgproto3.BackendMessage { return &pgproto3.CommandComplete{CommandTag: []byte("SET")} },
	"notices":     endlessNotices,
	"copied data": func(int) pgproto3.BackendMessage { return &pgproto3.CopyData{Data: make([]byte, 30_000)} },
	"notifications": func(n int) pgproto3.BackendMessage {
		return &pgproto3.NotificationResponse{PID: 1, Channel: fmt.Sprint(n), Payload: strings.Repeat("x", 1000)}
	},
}

// TestEndlessAnswers has a server answer for ever to all that the engine keeps an answer
// of: none may make it keep more than what it has asked for.
func TestEndlessAnswers(t *testing.T) {
	columns := &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
		{Name: []byte("usename"), DataTypeOID: 25}, {Name: []byte("count"), DataTypeOID: 20}, {Name: []byte("max"), DataTypeOID: 1184},
	}}
	for question, ask := range map[string]func(t *testing.T, p *Client, ctx context.Context) error{
		"begin": func(t *testing.T, p *Client, ctx context.Context) error {
			t.Helper()
			at, err := p.Server("main")
			expect.OK(t, err)
			conn, err := at.Login(t.Context(), Login{"somebody", impostorPassword})
			expect.OK(t, err)
			defer HangUp(ctx, conn)
			return beginOn(ctx, conn, readWrite)
		},
		"sessions": func(_ *testing.T, p *Client, ctx context.Context) error {
			_, err := p.Sessions(ctx, "main", []string{"somebody"})
			return err
		},
	} {
		for answer, message := range answers {
			t.Run(answer+" for "+question, func(t *testing.T) {
				s := newImpostor(t, func(f *front) {
					if !f.admit() {
						return
					}
					go func() { _, _ = io.Copy(io.Discard, f) }()
					if question == "sessions" {
						f.say(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("synchronous_commit"), DataTypeOID: 25}}},
							&pgproto3.DataRow{Values: [][]byte{[]byte("on")}}, &pgproto3.CommandComplete{CommandTag: []byte("SHOW")}, &pgproto3.ReadyForQuery{TxStatus: 'T'},
							&pgproto3.ParseComplete{}, &pgproto3.BindComplete{})
					}
					f.say(columns)
					f.flood(message)
				})
				p := New(func(string) (Connection, error) {
					return Connection{Settings: Settings{Config: s.Config}, Logins: []Login{{"somebody", impostorPassword}}}, nil
				}, func(context.Context, string, string) (Owner, error) { return Owner{}, nil })
				defer p.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				most := watchHeap(ctx)
				if err := ask(t, p, ctx); err == nil || LoginRefused(err) || errors.Is(err, rotation.ErrRefused) {
					t.Errorf("got %v", err)
				}
				if cost := <-most; cost > 32<<20 {
					t.Errorf("it kept %d MiB", cost>>20)
				}
			})
		}
	}
}

// watchHeap tells how many bytes more than now were in use until ctx ends.
func watchHeap(ctx context.Context) <-chan uint64 {
	before, most, told := inUse(), uint64(0), make(chan uint64, 1)
	go func() {
		for ctx.Err() == nil {
			if now := inUse(); now > before {
				most = max(most, now-before)
			}
			time.Sleep(20 * time.Millisecond)
		}
		told <- most
	}()
	return told
}

// inUse is what a collection finds to be in use. What was allocated after it, and may be
// garbage by now, does not count.
func inUse() uint64 {
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// TestHostileErrors has a server put into an error what no PostgreSQL puts there: what
// is told of it shows as what it is, in one line, and is short.
func TestHostileErrors(t *testing.T) {
	for name, sent := range map[string]pgproto3.ErrorResponse{
		"a line end in the SQLSTATE": {Code: "28P01\nlevel=error msg=\x1b[2J"},
		"data in the SQLSTATE":       {Code: strings.Repeat("4111", 10_000)},
		"no SQLSTATE":                {},
		"a message that turns":       {Code: "42501", Message: "no \u202eright\u2066\u2028\u200b to\x00\x1b[2J"},
		"a long message":             {Code: "42501", Message: strings.Repeat("x", 60_000)},
		"a message not in UTF-8":     {Code: "42501", Message: "\xff\xfe"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newImpostor(t, func(f *front) {
				if !f.admit() {
					return
				}
				sent.Severity = "ERROR"
				f.say(&sent, &pgproto3.ReadyForQuery{TxStatus: 'I'})
				_, _ = io.Copy(io.Discard, f)
			})
			err := s.Try(t.Context(), Login{"somebody", impostorPassword})
			if err == nil || LoginRefused(err) {
				t.Fatalf("got %v", err)
			}
			if len(err.Error()) > 700 || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("of %d bytes: %.200q", len(err.Error()), err.Error())
			}
			if code := CodeOf(err); len(code) != 5 {
				t.Errorf("the SQLSTATE is %.50q", code)
			}
		})
	}
}

// TestHostileStart is about how a session begins: whatever a server says instead, nothing
// of the login is given to it, and it refuses nobody before it has been asked.
func TestHostileStart(t *testing.T) {
	refusal := &pgproto3.ErrorResponse{Severity: "FATAL", Code: codeInvalidPassword, Message: "no"}
	for name, script := range map[string]func(f *front){
		"more than its yes to TLS": func(f *front) {
			data, _ := refusal.Encode([]byte("S"))
			_, _ = f.Write(data)
		},
		"plain text after its yes to TLS": func(f *front) {
			_, _ = f.Write([]byte("S"))
			_, _ = io.ReadFull(f, make([]byte, headLength))
			f.say(refusal)
		},
		"a refusal instead of TLS": func(f *front) { f.say(refusal) },
		"no to TLS":                func(f *front) { _, _ = f.Write([]byte("N")) },
		"nothing":                  func(*front) {},
	} {
		t.Run(name, func(t *testing.T) {
			given := make(chan string, 8)
			s := newImpostor(t, func(f *front) {
				script(f)
				data, _ := io.ReadAll(f)
				given <- string(data)
			})
			s.Config.SSLMode = "require"
			s, err := NewServer(s.Config)
			expect.OK(t, err)
			err = s.Try(t.Context(), Login{"somebody", impostorPassword})
			if err == nil || LoginRefused(err) {
				t.Errorf("got %v", err)
			}
			if data := <-given; strings.Contains(data, "somebody") || strings.Contains(data, impostorPassword) {
				t.Errorf("the server was given %q", data)
			}
		})
	}
}
