package smvmcreds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// script is a reader that answers version 1, 2 and so on, with a key for each.
type script struct {
	reads   atomic.Int64
	failing atomic.Bool
}

func (s *script) Read(context.Context, *Credentials) (*Credentials, error) {
	n := int(s.reads.Add(1))
	if s.failing.Load() {
		return nil, errors.New("Vault is away")
	}
	return NewCredentials(n, map[string]string{
		"api_key": fmt.Sprintf("key-%d", n), "api_previous_key": fmt.Sprintf("key-%d", n-1),
		"jwt_algorithm": "HS256", "jwt_kid": fmt.Sprint(n), "jwt_secret": fmt.Sprintf("a secret of version %032d", n),
		"jwt_previous_kid": fmt.Sprint(n - 1), "jwt_previous_secret": fmt.Sprintf("a secret of version %032d", n-1),
	}), nil
}

func open(t *testing.T, reader Reader) *Source {
	t.Helper()
	return openWith(t, reader, 20*time.Millisecond)
}

func openWith(t *testing.T, reader Reader, minInterval time.Duration) *Source {
	t.Helper()
	s, err := Open(t.Context(), reader, Options{MinInterval: minInterval, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestRefreshIsShared has many ask at the same time: few reads answer them all.
func TestRefreshIsShared(t *testing.T) {
	reader := &script{}
	s := openWith(t, reader, 500*time.Millisecond) // a busy machine starts goroutines slowly
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			if err := s.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if reads := reader.reads.Load(); reads < 2 || reads > 12 {
		t.Errorf("200 refreshes made %d reads", reads)
	}
}

// TestKeepsLast has the reader fail: what was read stays, and comes back.
func TestKeepsLast(t *testing.T) {
	reader := &script{}
	s := open(t, reader)
	reader.failing.Store(true)
	if err := s.Refresh(t.Context()); err == nil || s.Current().Version != 1 || s.Failing() < 1 {
		t.Errorf("after a read that failed: %v, version %d, %d failures", err, s.Current().Version, s.Failing())
	}
	reader.failing.Store(false)
	if err := s.Refresh(t.Context()); err != nil || s.Current().Version < 2 || s.Failing() != 0 {
		t.Errorf("after one that worked: %v, version %d, %d failures", err, s.Current().Version, s.Failing())
	}
}

// TestOpenGivesUp bounds the first read by the context.
func TestOpenGivesUp(t *testing.T) {
	reader := &script{}
	reader.failing.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, reader, Options{MinInterval: time.Millisecond}); err == nil || !strings.Contains(err.Error(), "Vault is away") {
		t.Errorf("without any credentials, Open says %v", err)
	}
}

// TestKeys accepts current and previous keys, asks once for one it does not know,
// and refuses the rest.
func TestKeys(t *testing.T) {
	reader := &script{}
	s := open(t, reader)
	for _, key := range []string{"key-1", "key-0", "key-2"} {
		if !s.AcceptsKey(t.Context(), "api", key) {
			t.Errorf("%s is refused", key)
		}
	}
	for _, key := range []string{"", "key-0", "wrong"} {
		if s.AcceptsKey(t.Context(), "api", key) {
			t.Errorf("%q is accepted", key)
		}
	}
	if s.AcceptsKey(t.Context(), "none", "") || s.Current().acceptsKey("none", "") {
		t.Error("an empty key is accepted where there is none")
	}
}

// TestTokens verifies by kid, and refuses what is not signed by HMAC.
func TestTokens(t *testing.T) {
	s := open(t, &script{})
	claims := jwt.RegisteredClaims{Subject: "test"}
	signed, err := s.SignToken(t.Context(), "jwt", claims)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(signed, s.Keyfunc("jwt")); err != nil {
		t.Errorf("a token of the previous key: %v", err)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(signed, s.Keyfunc("jwt")); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a token of a retired key: %v", err)
	}
	none := jwt.NewWithClaims(jwt.SigningMethodNone, claims)
	none.Header["kid"] = fmt.Sprint(s.Current().Version)
	unsigned, err := none.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(unsigned, s.Keyfunc("jwt")); err == nil {
		t.Error("a token without a signature is accepted")
	}
}

// TestRetry repeats what failed for a refused login, and nothing else.
func TestRetry(t *testing.T) {
	s := open(t, &script{})
	refused := fmt.Errorf("acquire: %w", &pgconn.ConnectError{Config: &pgconn.Config{}})
	for name, err := range map[string]error{"connection": refused, "query": &pgconn.PgError{Code: "28P01"}} {
		calls := 0
		_ = s.Retry(t.Context(), func(context.Context) error { calls++; return err })
		if calls != 1 {
			t.Errorf("an error of a %s was tried %d times", name, calls)
		}
	}
}

// TestRedacted prints credentials in every way.
func TestRedacted(t *testing.T) {
	s := open(t, &script{})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if out := fmt.Sprintf(verb, s.Current()); out != Redacted {
			t.Errorf("%s shows %s", verb, out)
		}
	}
}
