package jwt

import (
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestConfigRefused(t *testing.T) {
	typ := driver{}
	conformance.RefusesConfigurations(t, typ, map[string]conformance.Configuration{
		"algorithm":      {Config{Algorithm: "RS128"}, []string{"algorithm", "HS256"}},
		"algorithm none": {Config{Algorithm: "none"}, []string{"algorithm"}},
		"key_bits":       {map[string]any{"key_bits": 2048}, []string{"key_bits", "HS256", "leave it out"}},
		"key_bits of EC": {Config{Algorithm: "ES256", KeyBits: 2048}, []string{"key_bits", "ES256"}},
		"odd key_bits":   {Config{Algorithm: "RS256", KeyBits: 1024}, []string{"key_bits", "1024", "2048, 3072 and 4096"}},
		"negative ttl":   {Config{MaxTTL: -1}, []string{"max_ttl"}},
		"issuer":         {Config{Issuer: "a\nb"}, []string{"issuer"}},
		"empty audience": {Config{Audience: []string{""}}, []string{"audience"}},
		"allowed exp":    {Config{AllowedClaims: []string{"exp"}}, []string{"allowed_claims", "exp"}},
		"both lists":     {Config{AllowedClaims: []string{"x"}, DeniedClaims: []string{"x"}}, []string{"denied_claims", `"x"`}},
	})
	expect.OK(t, typ.Validate(nil))
	expect.OK(t, typ.Validate([]byte("{}")))
}

func TestShortSecretRefused(t *testing.T) {
	conformance.RefusesImports(t, driver{}, strings.Repeat("k", 31))
}

// TestSecretIsTheKey signs as an application does that knows nothing of us.
func TestSecretIsTheKey(t *testing.T) {
	typ := driver{}
	s := conformance.SecretOf(t, "jwt", Config{})
	v, err := typ.Create(t.Context(), s)
	expect.OK(t, err)
	fields, err := typ.Fields(s, v)
	expect.OK(t, err)
	if len(fields["secret"]) != 128 || strings.Contains(fields["secret"], fields["kid"]) {
		t.Errorf("the secret has %d characters, or contains the kid", len(fields["secret"]))
	}
	signed, err := jwt.NewWithClaims(jwt.GetSigningMethod(fields["algorithm"]), jwt.MapClaims{}).SignedString([]byte(fields["secret"]))
	expect.OK(t, err)
	previous := typ.PreviousFields(v)
	_, err = jwt.Parse(signed, func(*jwt.Token) (any, error) { return []byte(previous["previous_secret"]), nil })
	expect.OK(t, err)
	expect.Refused(t, typ.Test(t.Context(), s, rotation.Material{"algorithm": "HS512", "kid": "x", "secret": "short"}))
	expect.Refused(t, typ.Test(t.Context(), s, rotation.Material{"algorithm": "none", "kid": "x", "secret": fields["secret"]}))
}
