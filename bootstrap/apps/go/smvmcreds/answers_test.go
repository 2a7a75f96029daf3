package smvmcreds

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// answering is a Vault that says the same to everything.
func answering(t *testing.T, text string) *Vault {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, text) }))
	t.Cleanup(server.Close)
	return &Vault{Address: server.URL, Path: "smvm/creds/orders", Auth: Token("hvs.hunter2")}
}

// TestOddAnswers has Vault, or what is before it, answer what creds never does: it
// counts as no answer, whether there are credentials or not, so that the last stay.
func TestOddAnswers(t *testing.T) {
	have := NewCredentials(3, map[string]string{"db_username": "orders_a"})
	for _, text := range []string{
		``, `null`, `[]`, `{}`, `{"data":null}`, `{"data":[]}`, `{"data":"hunter2"}`, `<html>hunter2</html>`,
		`{"data":{"ttl":10}}`, `{"data":{"version":4}}`, `{"data":{"version":"4","ttl":10}}`, `{"data":{"version":4,"ttl":"10"}}`,
		`{"data":{"version":4.5,"ttl":10}}`, `{"data":{"version":4e3,"ttl":10}}`, `{"data":{"version":99999999999999999999,"ttl":10}}`,
		`{"data":{"version":0,"ttl":10,"db_username":"b"}}`, `{"data":{"version":-4,"ttl":10,"db_username":"b"}}`,
		`{"data":{"version":4,"ttl":-1,"db_username":"b"}}`, `{"data":{"version":4,"ttl":-9000000000,"db_username":"b"}}`,
		`{"data":{"version":4,"ttl":10}}`, `{"data":{"version":4,"ttl":10,"changed":false}}`,
		`{"data":{"version":4,"ttl":10,"db_username":"b","padding":"` + strings.Repeat("x", maxAnswer) + `"}}`,
	} {
		v := answering(t, text)
		for _, have := range []*Credentials{nil, have} {
			if c, err := v.Read(t.Context(), have); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("with %v before, %.80s makes version %d, %v", have, text, c.Version, err)
			}
		}
	}
	if _, err := answering(t, `{"data":{"version":3,"ttl":10,"changed":false}}`).Read(t.Context(), nil); err == nil {
		t.Error("without any before, there are credentials that have not changed")
	}
}

// TestVersionOfAnotherRotation has Vault restored from a snapshot and rotate once more: a
// version that the reader has comes again, with other values.
func TestVersionOfAnotherRotation(t *testing.T) {
	const before, after = `"version":3,"ttl":10,"last_vault_rotation":"2026-01-01T00:00:00Z"`, `"version":3,"ttl":10,"last_vault_rotation":"2026-01-02T00:00:00Z"`
	restored := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `"api_key":"before",` + before
		switch asked := r.URL.Query().Has("if_version"); {
		case restored && asked:
			answer = `"changed":false,` + after
		case restored:
			answer = `"api_key":"after",` + after
		case asked:
			answer = `"changed":false,` + before
		}
		_, _ = fmt.Fprintf(w, `{"data":{%s}}`, answer)
	}))
	t.Cleanup(server.Close)
	v := &Vault{Address: server.URL, Path: "smvm/creds/orders", Auth: Token("hvs.hunter2")}
	var have *Credentials
	for _, want := range []string{"before", "before", "after", "after"} {
		c, err := v.Read(t.Context(), have)
		if err != nil || c.Value("api", "key") != want {
			t.Fatalf("it reads %v, not the key %s", err, want)
		}
		restored, have = restored || have != nil, c
	}
}

// TestTTL has Vault say when to come back: that is never at once, and never too late
// to hear of anything.
func TestTTL(t *testing.T) {
	for ttl, want := range map[string]time.Duration{
		"0": time.Second, "10": 11 * time.Second, "1000000000": maxTTL, "9223372036": maxTTL, "9223372036854775807": maxTTL,
	} {
		c, err := answering(t, `{"data":{"version":4,"ttl":`+ttl+`,"db_username":"b"}}`).Read(t.Context(), nil)
		if err != nil || c.TTL != want {
			t.Errorf("for a ttl of %s it waits for %v, %v", ttl, c.TTL, err)
		}
	}
}

// TestOddLogins has Vault answer logins and renewals with what is no token that
// lives: asking for more factors is one such answer.
func TestOddLogins(t *testing.T) {
	for _, text := range []string{
		`null`, `{}`, `{"auth":null}`, `{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"1"}}}`, `{"auth":{"lease_duration":3600,"renewable":true}}`,
		`{"auth":{"client_token":"hvs.hunter2","lease_duration":-1}}`, `{"auth":{"client_token":"hvs.hunter2","lease_duration":9223372036854775808}}`,
	} {
		v, a := answering(t, text), loginFiles(t)
		if token, err := a.Token(t.Context(), v); err == nil || token != "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s makes the token %q, %v", text, token, err)
		}
		a.token, a.ends = "hvs.held", time.Now().Add(time.Minute)
		if token, err := a.Token(t.Context(), v); err == nil || token != "" {
			t.Errorf("as a renewal %s makes the token %q, %v", text, token, err)
		}
	}
	a := loginFiles(t)
	token, err := a.Token(t.Context(), answering(t, `{"auth":{"client_token":"hvs.hunter2","lease_duration":9223372036854775807,"renewable":true}}`))
	if err != nil || token != "hvs.hunter2" || time.Until(a.renew) < time.Hour {
		t.Errorf("a token for very long is renewed in %v, %v", time.Until(a.renew), err)
	}
}
