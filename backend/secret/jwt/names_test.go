package jwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/text/unicode/norm"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// guarded is a configuration that denies, fixes and makes claims.
var guarded = Config{Issuer: "orders", Audience: []string{"shop"}, DeniedClaims: []string{"admin", "groß"}}

// identity is what the template has made for it.
var identity = map[string]any{"team": "desk"}

// reader is a struct as applications have it, which encoding/json fills in.
type reader struct {
	jwt.RegisteredClaims
	Admin bool   `json:"admin"`
	Team  string `json:"team"`
}

// variants are the names that decoders take for name: every combination is too
// much, so each character is replaced by every other of its kind, and all at once.
func variants(name string) []string {
	made := []string{strings.ToUpper(name), strings.ToTitle(name), norm.NFD.String(name), "_" + name, name[:1] + "-" + name[1:]}
	for at, r := range name {
		for _, other := range likes()[fold(string(r))] {
			made = append(made, name[:at]+string(other)+name[at+len(string(r)):])
		}
	}
	return slices.DeleteFunc(made, func(v string) bool { return v == name })
}

// likes are all characters of Unicode by what they fold to.
var likes = sync.OnceValue(func() map[string][]rune {
	found := map[string][]rune{}
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if r < 0xd800 || r > 0xdfff {
			found[fold(string(r))] = append(found[fold(string(r))], r)
		}
	}
	return found
})

// request asks for a token that claims what it may not under that name.
func request(name string, value any) TokenRequest {
	return TokenRequest{Claims: map[string]any{name: value}, Identity: identity, Overlap: time.Hour, Now: time.Now()}
}

// TestNoClaimUnderAnotherName asks for every claim that is set, fixed, denied or
// templated, under every name that a decoder takes for it. Whatever is signed, who
// reads it into a struct sees what the engine says.
func TestNoClaimUnderAnotherName(t *testing.T) {
	ring := ringOf(t, "ES256", p256Key7515)
	ring.config = guarded
	values := map[string]any{"exp": 4102444800, "nbf": 1, "iat": 1, "jti": "x", "iss": "evil", "aud": "evil", "sub": "root", "admin": true, "groß": true, "team": "root"}
	for name, value := range values {
		tried := variants(name)
		if len(tried) < 2*len([]rune(name)) {
			t.Errorf("of %s there are only %q", name, tried)
		}
		for _, other := range tried {
			claims, _, err := guarded.Claims(request(other, value))
			if !errors.Is(err, rotation.ErrInvalid) {
				t.Errorf("%+q for %s makes %v, %v", other, name, claims, err)
				seen(t, ring, claims)
			}
		}
	}
	claims, _, err := guarded.Claims(request("administrator", true))
	expect.OK(t, err)
	seen(t, ring, claims)
}

// seen signs claims and reads them as verifiers do.
func seen(t *testing.T, ring *Keyring, claims map[string]any) {
	t.Helper()
	token, _, err := ring.Sign(claims)
	expect.OK(t, err)
	var got, plain reader
	_, err = jwt.ParseWithClaims(token, &got, func(*jwt.Token) (any, error) { return ring.current.public, nil })
	expect.OK(t, err)
	text, err := json.Marshal(claims)
	expect.OK(t, err)
	expect.OK(t, json.Unmarshal(text, &plain))
	for _, v := range []reader{got, plain} {
		if v.Admin || v.Issuer != "orders" || !slices.Equal(v.Audience, []string{"shop"}) || v.Subject != "" || v.Team != "desk" || v.ID == "x" || v.NotBefore.Unix() == 1 {
			t.Errorf("%s reads as %+v", text, v)
		}
	}
}

// TestFoldIsNoFinerThanDecoders compares with encoding/json for every character: what
// it takes for the same is the same here.
func TestFoldIsNoFinerThanDecoders(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		for other := unicode.SimpleFold(r); other > r; other = unicode.SimpleFold(other) {
			if a, b := fold("x"+string(r)), fold("x"+string(other)); a != b {
				t.Errorf("%U and %U are %q and %q", r, other, a, b)
			}
		}
	}
	for _, same := range [][2]string{{"ſub", "sub"}, {"iſs", "iss"}, {"iß", "iss"}, {"ıss", "iss"}, {"İss", "iss"}, {"K", "k"}, {"ｅｘｐ", "exp"}, {"ﬀ", "ff"}, {"é", "é"}, {"ﬆ", "st"}, {"ᾳ", "αι"}} {
		if fold(same[0]) != fold(same[1]) {
			t.Errorf("%+q and %+q are %q and %q", same[0], same[1], fold(same[0]), fold(same[1]))
		}
	}
}

// TestNamesThatNobodySees are refused, wherever they stand.
func TestNamesThatNobodySees(t *testing.T) {
	for _, hidden := range []string{"\x00", "\x01", "\x7f", "\u0085", "\u00ad", "\u200b", "\u200d", "\u202e", "\u2060", "\ufeff", "\ufe0f", "\u034f", "\u3164", "\U000e0061", "\ufffd", "\xff"} {
		for _, name := range []string{hidden + "admin", "ad" + hidden + "min", "admin" + hidden, hidden} {
			if _, _, err := (Config{}).Claims(request(name, true)); !errors.Is(err, rotation.ErrInvalid) || strings.Contains(err.Error(), hidden) && hidden != "\ufffd" {
				t.Errorf("%+q: %v", name, err)
			}
		}
	}
}

// TestClaimsThatFoldOntoEachOther are refused; nested ones are the application's own.
func TestClaimsThatFoldOntoEachOther(t *testing.T) {
	for _, names := range [][2]string{{"scope", "Scope"}, {"scope", "ſcope"}, {"kind", "Kind"}, {"straße", "STRASSE"}} {
		_, _, err := (Config{}).Claims(TokenRequest{Claims: map[string]any{names[0]: 1, names[1]: 2}, Overlap: time.Hour, Now: time.Now()})
		if !errors.Is(err, rotation.ErrInvalid) {
			t.Errorf("%q: %v", names, err)
		}
	}
	for _, good := range []map[string]any{{"user_id": 1, "userId": 2}, {"straße": 1, "größe": 2}, {"https://example.org/roles": []any{"a"}}, {"deep": map[string]any{"a": 1, "A": 2}}} {
		if _, _, err := (Config{}).Claims(TokenRequest{Claims: good, Overlap: time.Hour, Now: time.Now()}); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
}

// TestClaimNamesOfConfigurations refuses what would not mean what it says, and still
// reads what was stored before that was checked.
func TestClaimNamesOfConfigurations(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		words  string
	}{
		"allowed onto the engine's":  {Config{AllowedClaims: []string{"Exp"}}, "allowed_claims"},
		"allowed onto a registered":  {Config{AllowedClaims: []string{"ſub"}}, "allowed_claims"},
		"denied onto a registered":   {Config{DeniedClaims: []string{"ISS"}}, "denied_claims"},
		"allowed onto each other":    {Config{AllowedClaims: []string{"Admin", "admin"}}, "allowed_claims"},
		"denied onto each other":     {Config{DeniedClaims: []string{"k", "\u212a"}}, "denied_claims"},
		"denied onto allowed":        {Config{AllowedClaims: []string{"Admin"}, DeniedClaims: []string{"admin"}}, "denied_claims"},
		"denied that nobody can see": {Config{DeniedClaims: []string{"ad\u200bmin"}}, "denied_claims"},
	} {
		config, err := json.Marshal(c.config)
		expect.OK(t, err)
		if err := (driver{}).Validate(config); !errors.Is(err, rotation.ErrInvalid) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ReadConfig(config); err != nil {
			t.Errorf("%s, stored before: %v", name, err)
		}
	}
	config, err := json.Marshal(Config{AllowedClaims: []string{"sub", "Scope", "straße"}, DeniedClaims: []string{"iss", "aud", "admin"}})
	expect.OK(t, err)
	expect.OK(t, (driver{}).Validate(config))
	for _, made := range []map[string]any{{"Exp": 1}, {"iſs": 1}, {"a": 1, "A": 2}, {"scope": 1}, {"Admin": 1}, {"\u200b": 1}} {
		err := Config{AllowedClaims: []string{"Scope"}, DeniedClaims: []string{"admin"}}.CheckIdentity(made)
		if !errors.Is(err, rotation.ErrInvalid) || !strings.Contains(err.Error(), "claims_template") {
			t.Errorf("%v: %v", made, err)
		}
	}
	expect.OK(t, Config{AllowedClaims: []string{"Scope"}, DeniedClaims: []string{"sub"}}.CheckIdentity(map[string]any{"sub": "x", "Scope": "y"}))
}

// TestAllowedByItsOwnName allows no other that is taken for it.
func TestAllowedByItsOwnName(t *testing.T) {
	c := Config{AllowedClaims: []string{"Scope"}}
	for name, allowed := range map[string]bool{"Scope": true, "scope": false, "SCOPE": false, "ſcope": false, "s_cope": false} {
		if _, _, err := c.Claims(TokenRequest{Claims: map[string]any{name: 1}, Overlap: time.Hour, Now: time.Now()}); (err == nil) != allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestObjectsWithANameTwice are refused at every depth, as are texts after the first.
func TestObjectsWithANameTwice(t *testing.T) {
	for text, words := range map[string]string{
		`{"sub":"a","sub":"b"}`:         "twice",
		`{"sub":"a","\u0073ub":"b"}`:    "twice",
		`{"x":{"y":1,"y":1}}`:           "twice",
		`{"x":[{},[{"y":1,"y":[]}]]}`:   "twice",
		`{"\ud800":1,"\ud801":2}`:       "twice",
		`{"x":1}}`:                      "not one JSON object",
		`{"x":1}]`:                      "not one JSON object",
		`{"x":1},`:                      "not one JSON object",
		`{"x":1} {"x":2}`:               "not one JSON object",
		`{"x":NaN}`:                     "not one JSON object",
		`{"x":Infinity}`:                "not one JSON object",
		`{"x":01}`:                      "not one JSON object",
		strings.Repeat(`{"x":`, 20_000): "not one JSON object",
		strings.Repeat(`{"x":`, 20_000) + `1` + strings.Repeat(`}`, 20_000): "not one JSON object",
	} {
		if claims, err := DecodeClaims("claims", text); !errors.Is(err, rotation.ErrInvalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%.40s: %v, %v", text, claims, err)
		}
	}
	good := `{"x":{"y":1},"y":[{"y":1},{"y":2}],"n":1e400}`
	if claims, err := DecodeClaims("claims", good); err != nil || !reflect.DeepEqual(claims["n"], json.Number("1e400")) {
		t.Errorf("%s: %v, %v", good, claims, err)
	}
}

// TestUnclearTokensAreRefused has tokens with a good signature that not everybody
// reads alike: signed elsewhere, or by an engine that did not look.
func TestUnclearTokensAreRefused(t *testing.T) {
	ring := ringOf(t, "ES256", p256Key7515)
	ring.config = Config{DeniedClaims: []string{"admin"}}
	tokens := map[string]string{}
	for _, name := range append(slices.Clone(registeredClaims), "admin") {
		for _, other := range variants(name) {
			text, _ := json.Marshal(other)
			tokens[fmt.Sprintf("%+q", other)] = forged(`{"alg":"ES256"}`, `{`+farOff+`,`+string(text)+`:"x"}`, by(t, ring.current))
		}
	}
	for claims, reason := range map[string]string{
		`"admin":true`: "", `"team":"a","Teams":"b"`: "", `"deep":{"a":1,"A":2}`: "",
		`"team":"a","Team":"b"`: refusedNames, `"\u200b":1`: refusedNames, `"\ud800":1`: refusedNames,
		`"sub":"a","sub":"b"`: refusedTwice, `"x":{"y":1,"y":2}`: refusedTwice, farOff: refusedTwice,
	} {
		got := ring.Verify(forged(`{"alg":"ES256"}`, `{`+farOff+`,`+claims+`}`, by(t, ring.current)), time.Now())
		if got.Refusal != reason || (got.Claims != nil) != (reason == "") || got.Stage != "current" {
			t.Errorf("%s: %+v, want %q", claims, got, reason)
		}
	}
	tokens["a header that says it twice"] = forged(`{"alg":"none","alg":"ES256"}`, `{`+farOff+`}`, by(t, ring.current))
	for name, token := range tokens {
		if got := ring.Verify(token, time.Now()); got.Valid() || got.Claims != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestClaimsStayOutOfTheHeader names parameters of headers as claims.
func TestClaimsStayOutOfTheHeader(t *testing.T) {
	ring := ringOf(t, "ES256", p256Key7515)
	named := map[string]any{"alg": "none", "crit": []any{"exp"}, "jku": "https://evil.example", "jwk": map[string]any{}, "kid": "other", "typ": "at+jwt", "x5u": "x", "b64": false, "cty": "JWT"}
	claims, _, err := Config{}.Claims(TokenRequest{Claims: named, Overlap: time.Hour, Now: time.Now()})
	expect.OK(t, err)
	token, kid, err := ring.Sign(claims)
	expect.OK(t, err)
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	expect.OK(t, err)
	if want := map[string]any{"alg": "ES256", "typ": "JWT", "kid": kid}; !reflect.DeepEqual(parsed.Header, want) {
		t.Errorf("the header is %v, want %v", parsed.Header, want)
	}
	if got := ring.Verify(token, time.Now()); !got.Valid() || got.Claims["kid"] != "other" {
		t.Errorf("it is %+v", got)
	}
}
