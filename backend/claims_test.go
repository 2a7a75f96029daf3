package backend

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestClaims signs what may be signed, and reads it from the token.
func TestClaims(t *testing.T) {
	m := signer(t, d("algorithm", "ES256", "issuer", "orders", "audience", "shop,desk", "max_ttl", "10m", "denied_claims", "admin"))
	claims := func(data map[string]any) map[string]any {
		t.Helper()
		answer := m.write(sign, data)
		got := m.write(verify, d("token", answer["token"]))
		if got["valid"] != true || got["kid"] != answer["kid"] {
			t.Fatalf("of %v, the token is %v", data, got)
		}
		return got["claims"].(map[string]any)
	}
	got := claims(d("claims", `{"sub": "alice", "n": 12345678901234567890, "deep": {"list": [1, "x", null]}}`, "ttl", 60))
	for name, want := range map[string]string{
		"sub": `"alice"`, "iss": `"orders"`, "aud": `["shop","desk"]`, "n": "12345678901234567890", "deep": `{"list":[1,"x",null]}`,
		"iat": "1772366400", "nbf": "1772366400", "exp": "1772366460",
	} {
		if text := jsonOf(t, got[name]); text != want {
			t.Errorf("%s is %s, want %s", name, text, want)
		}
	}
	if jti, _ := got["jti"].(string); len(jti) < 22 || jti == claims(d("ttl", 60))["jti"] {
		t.Errorf("jti %q is no id", jti)
	}
	if got := claims(d("claims", d("aud", "desk", "iss", "orders"))); jsonOf(t, got["aud"]) != `"desk"` || jsonOf(t, got["exp"]) != "1772367000" {
		t.Errorf("some of the audience, for the longest time, makes %v", got)
	}
	if got := claims(d("claims", d("aud", []any{"desk"}))); jsonOf(t, got["aud"]) != `["desk"]` {
		t.Errorf("a list of the audience makes %v", got["aud"])
	}
}

// TestClaimsRefused has every way to ask for a token that may not be had.
func TestClaimsRefused(t *testing.T) {
	m := signer(t, d("algorithm", "ES256", "issuer", "orders", "audience", "shop", "max_ttl", "10m", "denied_claims", "admin"))
	m.write("secrets/r/few", d("type", "jwt", "allowed_claims", "sub,scope", "claims_template", `{"who": {{identity.entity.name}}}`))
	for _, c := range []struct {
		path  string
		data  map[string]any
		words []string
	}{
		{sign, d("claims", d("exp", 1)), []string{"claims", "exp follows from ttl"}},
		{sign, d("claims", d("iat", 1)), []string{"claims", "the engine sets iat"}},
		{sign, d("claims", d("nbf", 1)), []string{"claims", "the engine sets nbf"}},
		{sign, d("claims", d("jti", "x")), []string{"claims", "the engine sets jti"}},
		{sign, d("claims", d("iss", "others")), []string{"claims", `issuer "orders"`}},
		{sign, d("claims", d("iss", 7)), []string{"claims", "iss is not a string"}},
		{sign, d("claims", d("sub", []any{"x"})), []string{"claims", "sub is not a string"}},
		{sign, d("claims", d("aud", "desk")), []string{"claims", "aud", "shop"}},
		{sign, d("claims", d("aud", []any{"shop", "desk"})), []string{"claims", "aud", "shop"}},
		{sign, d("claims", d("aud", []any{"shop", 7})), []string{"claims", "aud is not a string or a list"}},
		{sign, d("claims", d("aud", []any{})), []string{"claims", "aud is not a string or a list"}},
		{sign, d("claims", d("admin", true)), []string{"claims", "admin", "denied_claims"}},
		{sign, d("claims", d("Admin", true)), []string{"claims", "Admin", "denied_claims"}},
		{sign, d("claims", `{"ſub": "root"}`), []string{"claims", `"\u017fub"`, "take for sub"}},
		{sign, d("claims", d("E-xp", 1)), []string{"claims", "take for exp"}},
		{sign, d("claims", `{"sub": "a", "sub": "b"}`), []string{"claims", "name twice"}},
		{sign, d("claims", `{"x": [{"y": 1, "y": 2}]}`), []string{"claims", "name twice"}},
		{sign, d("claims", `{"a": 1}}`), []string{"claims", "JSON object"}},
		{sign, d("claims", d("scope", "a", "Scope", "b")), []string{"claims", `"Scope" and "scope"`}},
		{sign, d("claims", d("ad\u200bmin", true)), []string{"claims", "invisible characters"}},
		{sign, d("claims", "[1]"), []string{"claims", "JSON object"}},
		{sign, d("claims", "null"), []string{"claims", "JSON object"}},
		{sign, d("claims", `{"a":1} {"b":2}`), []string{"claims", "JSON object"}},
		{sign, d("claims", []any{"x"}), []string{"claims", "JSON object"}},
		{sign, d("claims", d("x", strings.Repeat("x", maxFieldLength))), []string{"claims", "65536"}},
		{sign, d("claims", d("x", []any{d("y", "nul\x00")})), []string{"claims", "NUL"}},
		{sign, d("ttl", "11m"), []string{"ttl", "is 11m, and max_ttl is 10m"}},
		{sign, d("ttl", "2h"), []string{"ttl", "is 2h", "overlap of 1h"}},
		{sign, d("ttl", "-1s"), []string{"ttl", "negative"}},
		{"jwt/r/few/sign", d("claims", d("other", 1)), []string{"claims_template", "has none"}},
		{"jwt/r/nope/sign", nil, []string{"name", `no secret "nope"`}},
		{"jwt/nope/jwt/sign", nil, []string{"role", "unknown role"}},
		{verify, nil, []string{"token", "is missing"}},
	} {
		m.refused(logical.UpdateOperation, c.path, c.data, c.words...)
	}
	m.write("secrets/r/key", d("type", "api_key"))
	m.refused(logical.UpdateOperation, "jwt/r/key/verify", d("token", "x"), "name", "of type api_key")
}

// TestIdentityClaims fills the template with who asks.
func TestIdentityClaims(t *testing.T) {
	m := signer(t, d("allowed_claims", "scope", "claims_template",
		`{"sub": {{identity.entity.name}}, "groups": {{identity.entity.groups.names}}, "team": {{identity.entity.metadata.team}}}`))
	m.system.EntityVal = &logical.Entity{ID: "entity-test", Name: `ali"ce`, Metadata: map[string]string{"team": "desk"}}
	m.system.GroupsVal = []*logical.Group{{ID: "g", Name: "staff"}}
	got := m.write(verify, d("token", m.token(d("scope", "read"), "")))["claims"].(map[string]any)
	for name, want := range map[string]string{"sub": `"ali\"ce"`, "groups": `["staff"]`, "team": `"desk"`, "scope": `"read"`} {
		if text := jsonOf(t, got[name]); text != want {
			t.Errorf("%s is %s, want %s", name, text, want)
		}
	}
	m.refused(logical.UpdateOperation, sign, d("claims", d("sub", "root")), "claims", "sub", "claims_template")
	m.refused(logical.UpdateOperation, sign, d("claims", d("admin", true)), "claims", "admin", "allowed_claims")
	req := m.request(logical.UpdateOperation, sign, nil)
	req.EntityID = ""
	if resp, err := m.send(req); err != nil || !resp.IsError() || !strings.Contains(resp.Error().Error(), "your token has none") {
		t.Errorf("without an identity it is %v, %v", resp, err)
	}
	m.refused(logical.UpdateOperation, sign, d("claims", d("Sub", "root")), "claims", "Sub")
	m.refused(logical.UpdateOperation, sign, d("claims", d("ſcope", "root")), "claims", "allowed_claims")
	for template, words := range map[string][]string{
		`{"Exp": 1}`: {"claims_template", "take for exp"},
		`{"sub": "x", "sub": {{identity.entity.name}}}`: {"claims_template", "name twice"},
		`{"Scope": "all"}`:                    {"claims_template", "allowed_claims"},
		`{"exp": 1}`:                          {"claims_template", "exp"},
		`{"aud": "x"}`:                        {"claims_template", "aud"},
		`{"sub": {{identity.entity.name}`:     {"claims_template", "unbalanced"},
		`{"sub": {{identity.entity.nothing}}`: {"claims_template"},
		`["x"]`:                               {"claims_template", "JSON object"},
	} {
		m.refused(logical.UpdateOperation, "secrets/r/jwt", d("claims_template", template), words...)
	}
}

// TestIdentityNamesNoClaims has a template of which identities name the claims: what
// they name is held to the same rules, and no text of theirs ends the template's.
func TestIdentityNamesNoClaims(t *testing.T) {
	m := signer(t, d("denied_claims", "admin", "claims_template", `{{identity.entity.metadata}}`))
	for _, metadata := range []map[string]string{{"Exp": "1"}, {"iſs": "evil"}, {"Admin": "true"}, {"sub\u200b": "x"}, {"team": "a", "Team": "b"}, {"nbf": "1"}} {
		m.system.EntityVal = &logical.Entity{ID: "entity-test", Metadata: metadata}
		m.refused(logical.UpdateOperation, sign, nil, "claims_template")
	}
	m.system.EntityVal = &logical.Entity{ID: "entity-test", Metadata: map[string]string{"team": "\",\"admin\":\"true", "x\",\"admin\":true,\"y": "z"}}
	got := m.write(verify, d("token", m.token(nil, "")))["claims"].(map[string]any)
	if _, has := got["admin"]; has || len(got) != 6 || got["team"] != "\",\"admin\":\"true" {
		t.Errorf("the claims are %v", got)
	}
}

// TestLifetimeAndOverlap never lets tokens outlive their keys, whichever of the
// two limits is written last.
func TestLifetimeAndOverlap(t *testing.T) {
	m := signer(t, d("max_ttl", "1h"))
	m.refused(logical.UpdateOperation, "secrets/r/jwt", d("max_ttl", 3601), "max_ttl", "1h0m1s", "1h:")
	m.refused(logical.UpdateOperation, "secrets/r/new", d("type", "jwt", "max_ttl", "2h"), "max_ttl", "is 2h")
	m.refused(logical.UpdateOperation, "roles/r", d("overlap", "30m"), "overlap", "secret jwt", "max_ttl, 1h", "secrets/r/jwt")
	m.write("roles/r", d("overlap", "2h"))
	m.write("secrets/r/jwt", d("max_ttl", "2h"))
	m.refused(logical.UpdateOperation, "roles/r", d("overlap", "1h"), "overlap", "max_ttl, 2h")
	m.write("secrets/r/jwt", d("max_ttl", "1m"))
	m.write("roles/r", d("overlap", "30m"))
	m.write("config", d("overlap", "20m"))
	m.write("roles/s", d("rotation_period", "24h"))
	m.write("secrets/s/jwt", d("type", "jwt", "max_ttl", "20m"))
	m.write("config", d("overlap", "15m")) // the default of all roles: what is signed from now on keeps to it
	m.refused(logical.UpdateOperation, "jwt/s/jwt/sign", d("ttl", "16m"), "ttl", "overlap of 15m")
	if got := m.write("jwt/s/jwt/sign", nil)["expires"]; got != "2026-03-01T12:15:00Z" {
		t.Errorf("the longest token expires at %v", got)
	}
}

func jsonOf(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestHugeLifetimes are refused, and not taken for what is left of them when they
// overflow.
func TestHugeLifetimes(t *testing.T) {
	m := signer(t, nil)
	for _, huge := range []any{"18446744100", 18446744100, "18446744100s", "5124095576030431h", "9223372036854775807", json.Number("1e30"), "1e30", -18446744047, "-18446744047"} {
		m.refused(logical.UpdateOperation, sign, d("ttl", huge), "ttl")
		m.refused(logical.UpdateOperation, "secrets/r/jwt", d("max_ttl", huge), "max_ttl")
		m.refused(logical.UpdateOperation, "config", d("overlap", huge), "overlap")
	}
}
