package backend

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestLeakedForms looks up every form in which creds gives out a value, in every stage,
// and what was never one.
func TestLeakedForms(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", d("rotation_period", "24h", "overlap", "1h", "refresh_interval", "5m"))
	m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair()))
	m.write("secrets/r/pin", d("type", "random", "length", 40))
	m.write("secrets/r/api", d("type", "api_key"))
	m.write("secrets/r/hmac", d("type", "jwt"))
	m.write("secrets/r/pair", d("type", "jwt", "algorithm", "RS256", "exportable", true))
	hashed := m.shows("secrets/r/key", d("type", "api_key", "hash_only", true))

	forms := m.formsOf("r")
	forms["key"] = append(forms["key"], hashed)
	for _, name := range []string{"hmac", "pair"} {
		token := m.write("jwt/r/"+name+"/sign", d("claims", d("sub", "a")))["token"].(string)
		forms[name] = append(forms[name], token, token+"\n")
	}
	version := m.stored("r").Version
	answer := m.write("leaked", d("value", forms["hmac"][1], "respond", true))
	if report := answer["report"].(string); len(answer["operations"].([]map[string]any)) != 0 || m.stored("r").Version != version || !strings.Contains(report, "by a token of this key") || !strings.Contains(report, "there is nothing to rotate") {
		t.Errorf("a token that was found makes the engine rotate: %v", answer)
	}
	m.clock.advance(2 * time.Hour) // which a token need not outlive
	m.are(forms, "current", 0)
	if got := m.stagesOf(s.password); got != "connections/main/admin current" {
		t.Errorf("the administrator's password is %q", got)
	}
	m.shows("rotate/r", nil)
	m.are(forms, "previous", 0)
	m.are(m.formsOf("r"), "current", 7)
	m.shows("rotate/r", d("revoke_previous", true))
	m.are(forms, "retired", 0)

	for what, text := range map[string]string{
		"a part": forms["pin"][0][:20], "more": forms["pin"][0] + "x", "a made-up password": "correct horse battery staple",
		"a token of another key": strings.Join([]string{strings.Split(forms["hmac"][1], ".")[0], strings.Split(forms["hmac"][1], ".")[1], "AAAA"}, ".") + ".x",
		"a user name":            m.read("creds/r/db", nil)["username"].(string), "a public key": m.read("creds/r/pair", nil)["public_key"].(string),
		"a key id": m.read("creds/r/pair", nil)["kid"].(string), "an address": "postgres://host/orders",
	} {
		answer := m.write("leaked", d("value", text, "respond", true))
		if answer["found"] != false || fmt.Sprint(answer["values"], answer["operations"]) != "[] []" || !strings.Contains(answer["report"].(string), "is no value of this mount") {
			t.Errorf("%s answers %v", what, answer)
		}
	}
	m.refused(logical.UpdateOperation, "leaked", d("value", " \n"), "value: is missing", "value=-")
	m.refused(logical.UpdateOperation, "leaked", nil, "value: is missing")
	m.refused(logical.UpdateOperation, "leaked", d("value", strings.Repeat("x", maxFieldLength+1)), "value", "the limit is")
}

// formsOf are the texts by which values of a role can be held, by secret.
func (m *mount) formsOf(role string) map[string][]string {
	m.Helper()
	creds := m.read("creds/"+role, nil)
	text := func(name string) string { return creds[name].(string) }
	block, _ := pem.Decode([]byte(text("pair_private_key")))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		m.Fatal(err)
	}
	oldForm := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))})
	address, err := url.Parse(text("db_connection_string"))
	if err != nil {
		m.Fatal(err)
	}
	address.Host = "elsewhere:6432"
	return map[string][]string{
		"db":   {text("db_password"), " " + text("db_password") + "\r\n", text("db_connection_string"), address.String()},
		"pin":  {text("pin_value")},
		"api":  {text("api_key")},
		"hmac": {text("hmac_secret")},
		"pair": {text("pair_private_key"), text("pair_private_jwk"), string(oldForm), strings.ReplaceAll(text("pair_private_key"), "\n", `\n`), strings.ReplaceAll(text("pair_private_key"), "\n", "\r\n")},
		"key":  {text("key_key_sha256")},
	}
}

// are checks that each of the forms is that of one value, in that stage; of that version,
// unless it is zero.
func (m *mount) are(forms map[string][]string, stage string, version int) {
	m.Helper()
	for name, texts := range forms {
		for i, text := range texts {
			values := m.write("leaked", d("value", text))["values"].([]map[string]any)
			if len(values) != 1 || values[0]["role"] != "r" || values[0]["secret"] != name || values[0]["stage"] != stage || version != 0 && values[0]["version"] != version {
				m.Errorf("form %d of %s is %v, want %s, version %d", i, name, values, stage, version)
			}
		}
	}
}

// TestLeakedResponds replaces a value wherever it is, and says what it could not replace.
func TestLeakedResponds(t *testing.T) {
	m := newMount(t)
	const shared = "the-same-value-in-both-roles"
	for _, role := range []string{"a", "b"} {
		m.write("roles/"+role, d("rotation_period", "24h"))
		m.write("secrets/"+role+"/pin", d("type", "random", "skip_import_rotation", true, "value", shared))
		m.write("secrets/"+role+"/other", d("type", "random"))
	}
	var broken atomic.Bool
	m.policy("moody", func() (string, error) {
		if broken.Load() {
			return "", errors.New("the policy is in a mood")
		}
		return uid(t), nil
	})
	m.write("secrets/b/pin", d("password_policy", "moody"))
	broken.Store(true)
	other := m.read("creds/a", nil)["other_value"]
	answer := m.write("leaked", d("value", shared, "respond", true, "reason", "seen in a log", "wait", "20s"))
	operations := answer["operations"].([]map[string]any)
	if len(operations) != 2 {
		t.Fatalf("it answers %v", answer)
	}
	done, failed := operations[0], operations[1]
	if done["role"] != "a" || done["status"] != "completed" || done["version"] != 3 || done["error"] != "" || fmt.Sprint(done["secrets"]) != "[pin]" {
		t.Errorf("of role a it answers %v", done)
	}
	if failed["role"] != "b" || failed["status"] != "failed" || !strings.Contains(failed["error"].(string), "in a mood") || failed["rotation_id"] == "" {
		t.Errorf("of role b it answers %v", failed)
	}
	if got := m.read("creds/a", nil); got["pin_value"] == shared || got["other_value"] != other {
		t.Error("it has not replaced that secret alone")
	}
	if got := m.read("history/a/"+done["rotation_id"].(string), nil)["reason"]; got != "a value of stage current was reported as leaked: seen in a log" {
		t.Errorf("the record says %v", got)
	}
	if got := m.stagesOf(shared); got != "a/pin retired, b/pin current" {
		t.Errorf("after that the value is %q", got)
	}
	m.delete("secrets/b/pin")
	m.keepsNone()
	answer = m.write("leaked", d("value", shared, "respond", true))
	if len(answer["operations"].([]map[string]any)) != 0 || !strings.Contains(answer["report"].(string), "there is nothing to rotate") {
		t.Errorf("for a retired value it answers %v", answer)
	}
}

// TestLeakedNextKey drops a key that leaked before it was used, and gives nobody a key
// that is not stored.
func TestLeakedNextKey(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "24h"))
	m.write("secrets/r/jwt", d("type", "jwt", "algorithm", "ES256"))
	r, err := m.b.findRole(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	next := r.Snapshot().Secrets["jwt"].Next.Material
	answer := m.write("leaked", d("value", next["private_key"], "respond", true))
	if got := fmt.Sprint(answer["values"]); !strings.Contains(got, "stage:next") || !strings.Contains(got, "version:0") {
		t.Errorf("the next key is %s", got)
	}
	if now := m.read("creds/r/jwt", nil)["kid"]; now == next["kid"] {
		t.Error("the key that leaked is current")
	}
	if kids, _ := m.keySet("jwks/r/jwt"); strings.Contains(fmt.Sprint(kids), next["kid"]) {
		t.Error("the key that leaked is still published")
	}

	key := m.shows("secrets/r/key", d("type", "api_key", "hash_only", true))
	answer = m.write("leaked", d("value", key, "respond", true))
	told := answer["operations"].([]map[string]any)[0]
	if told["status"] != "failed" || !strings.Contains(told["error"].(string), "vault write smvm/rotate/r secrets=key revoke_previous=true") || m.stagesOf(key) != "r/key current" {
		t.Errorf("for a key that is not stored it answers %v", told)
	}
}

// TestLeakedAdministrator rotates the password of a connection's administrator.
func TestLeakedAdministrator(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	answer := m.write("leaked", d("value", s.password, "respond", true, "wait", "20s"))
	done := answer["operations"].([]map[string]any)[0]
	if done["connection"] != "main" || done["status"] != "completed" {
		t.Errorf("it answers %v", answer)
	}
	if got := m.stagesOf(s.password); got != "connections/main/admin retired" {
		t.Errorf("after that the password is %q", got)
	}
}
