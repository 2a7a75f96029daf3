package jwt

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
)

// TestClaimsThatAreInherited hides a denied claim where JavaScript finds it in a copy.
func TestClaimsThatAreInherited(t *testing.T) {
	ring := ringOf(t, "ES256", p256Key7515)
	ring.config = Config{DeniedClaims: []string{"admin"}}
	for text, hidden := range map[string]bool{
		`"__proto__":{"admin":true}`:                            true,
		`"user":[{"__proto__":{"admin":true}}]`:                 true,
		`"constructor":{"prototype":{"admin":true}}`:            true,
		`"user":{"constructor":{"prototype":{"admin":true}}}`:   true,
		`"constructor":"Anna","prototype":{"name":"__proto__"}`: false,
	} {
		claims, err := DecodeClaims("claims", "{"+text+"}")
		expect.OK(t, err)
		if _, _, err = ring.config.Claims(TokenRequest{Claims: claims, Overlap: time.Hour, Now: time.Now()}); hidden {
			expect.Invalid(t, err, "claims", "JavaScript")
		} else {
			expect.OK(t, err)
		}
		got := ring.Verify(forged(`{"alg":"ES256"}`, "{"+farOff+","+text+"}", by(t, ring.current)), time.Now())
		if got.Valid() == hidden {
			t.Errorf("%s: it is %+v", text, got)
		}
	}
}

// TestTokensOfUnusualSize are neither signed nor verified, before much is done about them.
func TestTokensOfUnusualSize(t *testing.T) {
	ring := ringOf(t, "ES256", p256Key7515)
	many := map[string]any{}
	for i := range maxClaims + 1 {
		many[fmt.Sprintf("claim_%d", i)] = i
	}
	for what, claims := range map[string]map[string]any{"many": many, "long": {"word": strings.Repeat("a", maxToken)}} {
		claims, _, err := ring.config.Claims(TokenRequest{Claims: claims, Overlap: time.Hour, Now: time.Now()})
		if err == nil {
			_, _, err = ring.Sign(claims)
		}
		if expect.Invalid(t, err, "claims", "the limit is"); t.Failed() {
			t.Fatal(what)
		}
	}
	got := ring.Verify(forged(`{"alg":"ES256"}`, `{`+farOff+`,"word":"`+strings.Repeat("a", maxToken)+`"}`, by(t, ring.current)), time.Now())
	if got.Refusal != refusedSize {
		t.Errorf("a long token is %q", got.Refusal)
	}
}
