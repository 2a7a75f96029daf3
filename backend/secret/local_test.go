package secret

import (
	"math"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestLocalConfigRefused(t *testing.T) {
	types := Types(nil, policies{})
	for name, test := range map[string]struct {
		kind   string
		config any
		words  []string
	}{
		"algorithm":       {"jwt", JWTConfig{Algorithm: "RS128"}, []string{"algorithm", "HS256"}},
		"algorithm none":  {"jwt", JWTConfig{Algorithm: "none"}, []string{"algorithm"}},
		"key_bits":        {"jwt", map[string]any{"key_bits": 2048}, []string{"key_bits", "HS256", "leave it out"}},
		"key_bits of EC":  {"jwt", JWTConfig{Algorithm: "ES256", KeyBits: 2048}, []string{"key_bits", "ES256"}},
		"odd key_bits":    {"jwt", JWTConfig{Algorithm: "RS256", KeyBits: 1024}, []string{"key_bits", "1024", "2048, 3072 and 4096"}},
		"negative ttl":    {"jwt", JWTConfig{MaxTTL: -1}, []string{"max_ttl"}},
		"issuer":          {"jwt", JWTConfig{Issuer: "a\nb"}, []string{"issuer"}},
		"empty audience":  {"jwt", JWTConfig{Audience: []string{""}}, []string{"audience"}},
		"allowed exp":     {"jwt", JWTConfig{AllowedClaims: []string{"exp"}}, []string{"allowed_claims", "exp"}},
		"both lists":      {"jwt", JWTConfig{AllowedClaims: []string{"x"}, DeniedClaims: []string{"x"}}, []string{"denied_claims", `"x"`}},
		"prefix":          {"api_key", APIKeyConfig{Prefix: "1x"}, []string{"prefix"}},
		"long prefix":     {"api_key", APIKeyConfig{Prefix: strings.Repeat("x", 33)}, []string{"prefix"}},
		"short key":       {"api_key", APIKeyConfig{Length: 21}, []string{"length", "22"}},
		"long key":        {"api_key", APIKeyConfig{Length: 129}, []string{"length", "128"}},
		"policy and more": {"random", RandomConfig{PasswordPolicy: "p", Length: 20}, []string{"password_policy", "excludes"}},
		"policy name":     {"random", RandomConfig{PasswordPolicy: "p\x01"}, []string{"password_policy"}},
		"too guessable":   {"random", RandomConfig{Length: 10}, []string{"length", "64"}},
		"one character":   {"random", RandomConfig{Length: 1024, Charset: "a"}, []string{"length", "64"}},
		"same twice":      {"random", RandomConfig{Charset: "abcdefa"}, []string{"charset", "twice"}},
		"space":           {"random", RandomConfig{Charset: "abcdef "}, []string{"charset"}},
		"control":         {"random", RandomConfig{Charset: "abcdef\t"}, []string{"charset"}},
		"too long":        {"random", RandomConfig{Length: 1025}, []string{"length", "1024"}},
		"negative":        {"random", RandomConfig{Length: -1}, []string{"length"}},
		"wrong type":      {"random", map[string]any{"length": "x"}, []string{"length"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := secretOf(t, test.kind, test.config)
			expect.Invalid(t, types[test.kind].Validate(s.Config), test.words...)
			if _, err := types[test.kind].Create(t.Context(), s); err == nil {
				t.Error("a value was made all the same")
			}
		})
	}
	if _, err := types["random"].Create(t.Context(), secretOf(t, "random", RandomConfig{PasswordPolicy: "missing"})); err == nil || !strings.Contains(err.Error(), `"missing"`) {
		t.Errorf("got %v, want the name of the policy", err)
	}
	for name, typ := range types {
		if name != "database" {
			expect.OK(t, typ.Validate(nil))
			expect.OK(t, typ.Validate([]byte("{}")))
		}
	}
}

func TestImportRefused(t *testing.T) {
	types := Types(nil, policies{})
	for kind, supplied := range map[string][]string{
		"jwt":     {strings.Repeat("k", 31)},
		"api_key": {"short", "sixteen letters with spaces", "sixteen-lettersé-and-one", strings.Repeat("x", 513)},
	} {
		for _, text := range supplied {
			_, err := types[kind].Import(secretOf(t, kind, struct{}{}), text)
			expect.Invalid(t, err)
			if strings.Contains(err.Error(), text) {
				t.Errorf("%v quotes what was supplied", err)
			}
		}
	}
	for _, name := range []string{"", "x\x00", strings.Repeat("x", 64)} {
		_, err := ImportAdmin(name, "password")
		expect.Invalid(t, err, "username")
	}
	_, err := ImportAdmin("admin", "line\n")
	expect.Invalid(t, err, "password")
}

// TestJWTSecretIsTheKey signs as an application does that knows nothing of us.
func TestJWTSecretIsTheKey(t *testing.T) {
	typ := Types(nil, nil)["jwt"]
	s := secretOf(t, "jwt", JWTConfig{})
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

// TestAPIKeyFormat checks the checksum against a value computed elsewhere:
// python3 -c 'import zlib; print(zlib.crc32(b"smvm_abc"))' is 1213120059.
func TestAPIKeyFormat(t *testing.T) {
	if got := checksum("smvm_abc"); got != "1K67wZ" {
		t.Errorf("checksum is %s, want %s", got, "1K67wZ")
	}
	typ := Types(nil, nil)["api_key"]
	s := secretOf(t, "api_key", APIKeyConfig{})
	v, err := typ.Create(t.Context(), s)
	expect.OK(t, err)
	key := v["key"]
	if !strings.HasPrefix(key, "smvm_") || len(key) != len("smvm_")+defaultAPIKeyLength+checksumLength {
		t.Errorf("a key of %d characters is not in the format", len(key))
	}
	for i := range len(key) {
		typo := []byte(key)
		typo[i]++
		expect.Refused(t, typ.Test(t.Context(), s, rotation.Material{"key": string(typo)}))
	}
}

// TestPickIsUniform counts 62,000 characters: each of 62 is expected 1,000
// times; 6 standard deviations are 190.
func TestPickIsUniform(t *testing.T) {
	count := make(map[rune]float64)
	for _, c := range pick([]rune(base62), 62_000) {
		count[c]++
	}
	for _, c := range base62 {
		if math.Abs(count[c]-1000) > 190 {
			t.Errorf("%q was picked %.0f times, want about 1000", c, count[c])
		}
	}
}
