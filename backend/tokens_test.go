package backend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

const sign, verify, keys = "jwt/r/jwt/sign", "jwt/r/jwt/verify", "jwks/r/jwt"

// signer is a mount with one key, of a role that rotates daily.
func signer(t *testing.T, fields map[string]any) *mount {
	t.Helper()
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "24h", "overlap", "1h", "refresh_interval", "5m"))
	m.write("secrets/r/jwt", but(fields, "type", "jwt"))
	return m
}

// token has claims signed.
func (m *mount) token(claims map[string]any, ttl string) string {
	m.Helper()
	data := d("claims", claims)
	if ttl != "" {
		data["ttl"] = ttl
	}
	return m.write(sign, data)["token"].(string)
}

// keySet is what a verifier is shown, and for how long.
func (m *mount) keySet(path string) (kids []string, fresh int) {
	m.Helper()
	data := m.read(path, nil)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data[logical.HTTPRawBody].([]byte), &set); err != nil {
		m.Fatal(err)
	}
	for _, key := range set.Keys {
		if !key.Valid() || !key.IsPublic() || key.Use != "sig" || key.Algorithm == "" {
			m.Errorf("key %s of %s is not a public one for signatures", key.KeyID, path)
		}
		kids = append(kids, key.KeyID)
	}
	if _, err := fmt.Sscanf(data[logical.HTTPCacheControlHeader].(string), "public, max-age=%d", &fresh); err != nil {
		m.Error(err)
	}
	return kids, fresh
}

// TestTokensOutliveRotations follows tokens from their signing to the end of their
// keys: accepted until then and not a second longer, whoever comes to retire them.
func TestTokensOutliveRotations(t *testing.T) {
	m := signer(t, d("algorithm", "ES256", "max_ttl", "1h"))
	first := m.token(d("sub", "orders"), "")
	if got := m.write(verify, d("token", first)); got["valid"] != true || got["stage"] != "current" || got["claims"].(map[string]any)["sub"] != "orders" {
		t.Errorf("a token is %v", got)
	}
	kid := m.read("creds/r/jwt", nil)["kid"]
	m.write("rotate/r", nil)
	if got := m.write(verify, d("token", first)); got["valid"] != true || got["stage"] != "previous" || got["kid"] != kid {
		t.Errorf("after a rotation it is %v", got)
	}
	m.clock.advance(59 * time.Minute)
	if got := m.write(verify, d("token", first)); got["valid"] != true {
		t.Errorf("in the overlap it is %v", got)
	}
	m.clock.advance(time.Minute)
	if got := m.write(verify, d("token", first)); got["valid"] != false || got["stage"] != "" || got["claims"] != nil || !strings.Contains(got["error"].(string), "kid") {
		t.Errorf("after it, and before anybody has retired it, it is %v", got)
	}
}

// TestEitherNameOfEd25519 makes no difference to a secret, and is kept as one.
func TestEitherNameOfEd25519(t *testing.T) {
	m := signer(t, d("algorithm", "Ed25519"))
	before := m.read("creds/r/jwt", nil)
	if before["algorithm"] != "EdDSA" {
		t.Errorf("the algorithm is %v", before["algorithm"])
	}
	for _, name := range []string{"EdDSA", "Ed25519"} {
		m.write("secrets/r/jwt", d("algorithm", name))
		if read := m.read("secrets/r/jwt", nil); read["algorithm"] != "EdDSA" || m.read("creds/r/jwt", nil)["kid"] != before["kid"] {
			t.Errorf("written as %s, it reads %v", name, read["algorithm"])
		}
	}
}

// TestNextKeyIsShownAhead looks at the key set over rotations: current, previous in
// its overlap, and next, which is what the rotation makes current.
func TestNextKeyIsShownAhead(t *testing.T) {
	m := signer(t, d("algorithm", "EdDSA"))
	shown, fresh := m.keySet(keys)
	if len(shown) != 2 || shown[0] != m.read("creds/r/jwt", nil)["kid"] || fresh > 300 || fresh < 270 {
		t.Fatalf("at first there are %v for %d s", shown, fresh)
	}
	for range 3 {
		m.write("rotate/r", nil)
		now, _ := m.keySet(keys)
		if len(now) != 3 || now[0] != shown[len(shown)-1] || now[1] != shown[0] {
			t.Errorf("after a rotation of %v there are %v", shown, now)
		}
		m.clock.advance(time.Hour)
		if after, _ := m.keySet(keys); len(after) != 2 || after[0] != now[0] || after[1] != now[2] {
			t.Errorf("after the overlap of %v there are %v", now, after)
		}
		shown = []string{now[0], now[2]}
	}
}

// TestFreshness is about how long the key set may be kept: never beyond the end of
// the previous key or the next rotation, and a little also when that is late.
func TestFreshness(t *testing.T) {
	m := signer(t, d("algorithm", "ES384"))
	m.write("rotate/r", nil)
	m.b.stop() // nothing rotates by itself meanwhile, however late
	for _, c := range []struct {
		advance         time.Duration
		least, greatest int
	}{
		{0, 270, 300},
		{59 * time.Minute, 54, 60},
		{59 * time.Second, 0, 1},
		{900 * time.Millisecond, 0, 0},
		{100 * time.Millisecond, 270, 300},
		{22*time.Hour + 59*time.Minute, 20, 60}, // a rotation starts up to 30 s early
		{time.Hour, 1, 2},
	} {
		m.clock.advance(c.advance)
		for range 20 {
			if _, fresh := m.keySet(keys); fresh < c.least || fresh > c.greatest {
				t.Errorf("after %s it may be kept for %d s, want %d to %d", c.advance, fresh, c.least, c.greatest)
			}
		}
	}
	spread := map[int]bool{}
	version := m.version("r")
	m.boot()
	m.eventually("the rotation that was due, after readers could read", func() bool { m.tick(time.Minute); return m.version("r") > version })
	for range 200 {
		_, fresh := m.keySet(keys)
		spread[fresh] = true
	}
	if len(spread) < 10 {
		t.Errorf("everybody is told to come again after one of %d times", len(spread))
	}
}

// TestNothingToShow answers alike whatever the reason is.
func TestNothingToShow(t *testing.T) {
	m := signer(t, nil)
	m.write("secrets/r/key", d("type", "api_key"))
	m.write("secrets/r/plain", d("type", "jwt", "algorithm", "EdDSA", "issuer", "orders"))
	for _, path := range []string{keys, "jwks/r/key", "jwks/r/nope", "jwks/nope/jwt", keys + discoverySuffix, "jwks/r/plain" + discoverySuffix} {
		if resp, err := m.try(logical.ReadOperation, path, nil); resp != nil || err != nil {
			t.Errorf("%s answers %v, %v", path, resp, err)
		}
	}
}

// TestKeySetFromMemory reads no storage, not even for names that do not exist.
func TestKeySetFromMemory(t *testing.T) {
	m := signer(t, d("algorithm", "EdDSA"))
	m.boot()
	m.eventually("all to be loaded", m.b.registry.Complete)
	m.storage.FailGet(true)
	m.storage.FailList(true)
	m.keySet(keys)
	if resp, err := m.try(logical.ReadOperation, "jwks/nope/jwt", nil); resp != nil || err != nil {
		t.Errorf("a name that does not exist answers %v, %v", resp, err)
	}
}

// TestKeySetUnreadable tells whoever asks that it is so, and not why.
func TestKeySetUnreadable(t *testing.T) {
	m := signer(t, d("algorithm", "EdDSA"))
	m.storage.FailGet(true)
	m.boot()
	_, err := m.try(logical.ReadOperation, keys, nil)
	if err == nil || err.Error() != errUnreadable.Error() {
		t.Errorf("without storage it answers %v", err)
	}
	m.storage.FailGet(false)
	m.keySet(keys)
}

// TestNotModified answers no body to who has it.
func TestNotModified(t *testing.T) {
	m := signer(t, d("algorithm", "EdDSA"))
	req := m.request(logical.ReadOperation, keys, nil)
	resp, err := m.send(req)
	m.must(resp, err)
	req.Headers = map[string][]string{"If-None-Match": resp.Headers["ETag"]}
	again, err := m.b.HandleRequest(t.Context(), req)
	if got := m.must(again, err); got[logical.HTTPStatusCode] != http.StatusNotModified || len(got[logical.HTTPRawBody].([]byte)) != 0 {
		t.Errorf("who has it is answered %v", got)
	}
	m.write("rotate/r", nil)
	again, err = m.b.HandleRequest(t.Context(), req)
	if got := m.must(again, err); got[logical.HTTPStatusCode] != http.StatusOK {
		t.Errorf("who has an old one is answered %v", got)
	}
}

// TestKeySetByHead answers HEAD as it does GET, also with a condition, another type
// and a query.
func TestKeySetByHead(t *testing.T) {
	m := signer(t, d("algorithm", "EdDSA", "issuer", "https://vault.example/v1/smvm/"+keys))
	for _, path := range []string{keys, keys + discoverySuffix} {
		for _, headers := range []map[string][]string{nil, {"If-None-Match": {`"other", W/"one"`, "*"}}, {"Accept": {"application/json"}}} {
			var got [2]string
			for i, op := range []logical.Operation{logical.ReadOperation, logical.HeaderOperation} {
				req := m.request(op, path, d("role", "other", "v", "1"))
				req.Headers = headers
				resp, err := m.b.HandleRequest(t.Context(), req)
				data := m.must(resp, err)
				got[i] = fmt.Sprint(data[logical.HTTPStatusCode], data[logical.HTTPContentType], data[logical.HTTPRawBody], resp.Headers)
			}
			if got[0] != got[1] || (path == keys) != strings.Contains(got[0], "ETag") {
				t.Errorf("%s with %v is answered %s by GET, and %s by HEAD", path, headers, got[0], got[1])
			}
		}
	}
}

// TestDiscovery has an issuer that is the URL of the key set.
func TestDiscovery(t *testing.T) {
	issuer := "https://vault.example:8200/v1/smvm/jwks/r/jwt"
	m := signer(t, d("algorithm", "PS256", "issuer", issuer))
	var got map[string]any
	if err := json.Unmarshal(m.read(keys+discoverySuffix, nil)[logical.HTTPRawBody].([]byte), &got); err != nil {
		t.Fatal(err)
	}
	if got["issuer"] != issuer || got["jwks_uri"] != issuer || fmt.Sprint(got["id_token_signing_alg_values_supported"]) != "[PS256]" {
		t.Errorf("the document is %v", got)
	}
}

// TestAnotherAlgorithm changes it: verifiers are shown a key of the new one at
// once, and the old ones until their end.
func TestAnotherAlgorithm(t *testing.T) {
	m := signer(t, nil)
	m.write("secrets/r/jwt", d("algorithm", "ES256"))
	ahead, _ := m.keySet(keys)
	if len(ahead) != 1 {
		t.Fatalf("before the first rotation there are %v", ahead)
	}
	hmac := m.token(nil, "30m")
	resp, err := m.try(logical.UpdateOperation, "rotate/r", d("dry_run", true))
	m.must(resp, err)
	if warned := strings.Join(resp.Warnings, " "); !strings.Contains(warned, "secret jwt: the new value was published only 0s ago") {
		t.Errorf("trying to rotate at once warns %q", warned)
	}
	resp, err = m.try(logical.UpdateOperation, "rotate/r", nil)
	m.must(resp, err)
	if warned := strings.Join(resp.Warnings, " "); !strings.Contains(warned, "secret jwt: the new value was published only 0s ago") {
		t.Errorf("rotating at once warns %q", warned)
	}
	now, _ := m.keySet(keys)
	if len(now) != 2 || now[0] != ahead[0] || m.read("creds/r/jwt", nil)["algorithm"] != "ES256" {
		t.Errorf("after it there are %v of %v", now, ahead)
	}
	if got := m.write(verify, d("token", hmac)); got["stage"] != "previous" {
		t.Errorf("a token of the old algorithm is %v", got)
	}
	m.write("secrets/r/jwt", d("issuer", "orders"))
	if same, _ := m.keySet(keys); fmt.Sprint(same) != fmt.Sprint(now) {
		t.Error("another issuer changes the keys")
	}
	m.write("secrets/r/jwt", d("algorithm", "HS256"))
	m.write("rotate/r", nil)
	if left, _ := m.keySet(keys); len(left) != 1 || left[0] != now[0] {
		t.Errorf("back at HS256 there are %v", left)
	}
}

// TestScheduleWaitsForVerifiers says when a rotation will be that has to wait, in
// creds and status alike, and keeps to it.
func TestScheduleWaitsForVerifiers(t *testing.T) {
	m := signer(t, d("algorithm", "ES256"))
	due, err := time.Parse(time.RFC3339, m.read("creds/r", nil)["next_vault_rotation"].(string))
	if err != nil {
		t.Fatal(err)
	}
	m.clock.advance(due.Sub(m.clock.now()) - time.Minute)
	m.write("secrets/r/jwt", d("algorithm", "ES512"))
	want := m.clock.now().Add(5 * time.Minute).Format(time.RFC3339)
	for _, path := range []string{"creds/r", "status/r"} {
		if got := m.read(path, nil)["next_vault_rotation"]; got != want {
			t.Errorf("%s says %v, want %s", path, got, want)
		}
	}
	m.tick(4 * time.Minute)
	if got := m.read("status/r", nil); got["version"] != 1 || got["overdue"] != false {
		t.Errorf("while it waits, status is %v", got)
	}
	m.tick(time.Minute)
	m.becomes("r", 2)
}

// TestOthersKeepTheirOverlap rotates one secret, and rolls it back: no other's
// overlap moves.
func TestOthersKeepTheirOverlap(t *testing.T) {
	m := signer(t, d("algorithm", "ES256"))
	m.write("secrets/r/other", d("type", "jwt", "algorithm", "EdDSA"))
	m.write("secrets/r/pin", d("type", "random"))
	m.write("rotate/r", nil)
	before := m.stored("r")
	for _, step := range []string{"rotate/r", "rollback/r", "rotate/r"} {
		m.clock.advance(7 * time.Minute)
		m.write(step, d("secrets", "jwt"))
		for _, name := range []string{"other", "pin"} {
			if got := m.stored("r").Secrets[name]; fmt.Sprintf("%#v", *got.Previous) != fmt.Sprintf("%#v", *before.Secrets[name].Previous) || !got.Previous.RetireTime.Equal(before.Secrets[name].Previous.RetireTime) {
				t.Errorf("%s of jwt changed the overlap of %s", step, name)
			}
		}
	}
}

// stored is the state of a role as it is now.
func (m *mount) stored(role string) *rotation.State {
	m.Helper()
	r, err := m.b.registry.Get(m.Context(), roles.Prefix, role)
	if err != nil || r == nil {
		m.Fatalf("find role %s: %v", role, err)
	}
	return r.Snapshot().State
}

// TestRollBackOrLeak rolls a key back: tokens signed in between stay good for the
// overlap, unless the reason is a leak.
func TestRollBackOrLeak(t *testing.T) {
	for _, leak := range []bool{false, true} {
		m := signer(t, d("algorithm", "EdDSA"))
		before := m.token(nil, "")
		m.write("rotate/r", nil)
		between := m.token(nil, "")
		m.write("rollback/r", d("revoke_previous", leak))
		if got := m.write(verify, d("token", before)); got["valid"] != true || got["stage"] != "current" {
			t.Errorf("leak %v: a token from before is %v", leak, got)
		}
		if got := m.write(verify, d("token", between)); got["valid"] != !leak {
			t.Errorf("leak %v: a token from in between is %v", leak, got)
		}
		if shown, _ := m.keySet(keys); len(shown) != map[bool]int{false: 3, true: 2}[leak] {
			t.Errorf("leak %v: shown are %v", leak, shown)
		}
	}
}
