package secret

import (
	"errors"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestAhead(t *testing.T) {
	var a ahead[int]
	begun := make(chan struct{})
	release := a.prepare("one", func() (int, error) { close(begun); return 1, nil })
	<-begun // before anybody has asked
	two := func() (int, error) { return 2, errors.New("two") }
	for about, want := range map[string]int{"one": 1, "another": 2} {
		if got, err := a.result(about, two)(); got != want || (err != nil) != (want == 2) {
			t.Errorf("%s: %d, %v", about, got, err)
		}
	}
	release()
	if got, _ := a.result("one", two)(); got != 2 {
		t.Error("what was released is still there")
	}
	if got, _ := (*ahead[int])(nil).result("one", two)(); got != 2 {
		t.Error("nothing was begun ahead")
	}
	a.prepare("bad", func() (int, error) { panic("bad") })
	defer func() {
		if p := recover(); p != "bad" {
			t.Errorf("who asks gets %v", p)
		}
	}()
	_, _ = a.result("bad", two)()
}

// TestPreparedVerifierIsSet prepares another password under the one to be set.
func TestPreparedVerifierIsSet(t *testing.T) {
	b := newBench(t, shared)
	d, s := b.database(DatabaseConfig{Usernames: []string{b.user(unique("app"))}})
	v, other := b.next(d, s), randomPassword()
	release := d.verifiers.prepare(v["password"], verifierOf(other))
	must(t, d.Set(t.Context(), s, v, unfenced))
	must(t, d.Test(t.Context(), s, databaseMaterial(v["username"], other)))
	release()
	release = d.Prepare(s, v)
	must(t, d.Set(t.Context(), s, v, unfenced))
	must(t, d.Test(t.Context(), s, v))
	if _, ok := d.verifiers.begun.Load(v["password"]); !ok {
		t.Error("nothing was prepared")
	}
	release()
	if _, ok := d.verifiers.begun.Load(v["password"]); ok {
		t.Error("a verifier is kept")
	}
}

// TestPreparedProofIsOfTheKey proves one key, and tests others.
func TestPreparedProofIsOfTheKey(t *testing.T) {
	jwt, s := Types(nil, nil)["jwt"].(jwtType), secretOf(t, "jwt", JWTConfig{Algorithm: "ES256"})
	v, err := jwt.Create(t.Context(), s)
	must(t, err)
	broken := rotation.Material{"algorithm": v["algorithm"], "kid": v["kid"], "public_key": v["public_key"], "private_key": "none"}
	defer jwt.Prepare(s, v)()
	must(t, jwt.Test(t.Context(), s, v))
	wantRefused(t, jwt.Test(t.Context(), s, broken))
	defer jwt.Prepare(s, broken)()
	wantRefused(t, jwt.Test(t.Context(), s, broken))
	must(t, jwt.Test(t.Context(), s, v))
}
