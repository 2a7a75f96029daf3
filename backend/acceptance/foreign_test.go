package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"
)

// sources are where keys come from: the engine, or an import of one that another
// program made.
var sources = []string{"generate", "openssl", "jose"}

// trial is one key on its way through other people's libraries.
type trial struct {
	*engine
	foreign           *foreign
	algorithm, source string
	creds             map[string]any
	// done is which library did what.
	done map[string][]string
}

// TestForeignLibraries lets libraries that other people wrote verify our tokens,
// through the key set and with exported keys, and us verify theirs, before and
// after a rotation, for every algorithm and every way to get a key.
func TestForeignLibraries(t *testing.T) {
	t.Parallel()
	e, f := newEngine(t), newForeign(t)
	var trials []*trial
	for _, source := range sources {
		e.write("roles/"+source, map[string]any{"rotation_period": "24h", "overlap": "1h"})
		for _, algorithm := range jwt.Algorithms {
			one := &trial{engine: e, foreign: f, algorithm: algorithm, source: source, done: map[string][]string{}}
			one.create()
			trials = append(trials, one)
		}
	}
	for _, one := range trials {
		before := one.sign()
		one.accepted(before)
		one.theirs()
		one.done["before"] = []string{before}
	}
	for _, source := range sources {
		answer := e.write("rotate/"+source, map[string]any{"wait": "60s"})
		if answer["status"] != "completed" {
			t.Fatalf("rotating %s: %v", source, answer)
		}
	}
	for _, one := range trials {
		one.across(one.done["before"][0])
		one.accepted(one.sign())
		one.theirs()
	}
	t.Log(table(trials))
}

// name is that of the secret.
func (r *trial) name() string { return strings.ToLower(r.algorithm) }

// create makes the key, or imports one that another program made.
func (r *trial) create() {
	r.Helper()
	data := map[string]any{"type": "jwt", "algorithm": r.algorithm, "exportable": true}
	field := "private_key"
	if jwt.Symmetric(r.algorithm) {
		field = "secret"
	}
	switch {
	case r.source == "generate":
	case field == "secret":
		data[field] = openssl(r.T, nil, "rand", "-hex", "64")
	case r.source == "openssl":
		data[field] = opensslKey(r.T, r.algorithm)
	default:
		made := r.foreign.call(map[string]any{"operation": "generate", "algorithm": r.algorithm, "bits": 2048}).(map[string]any)
		data[field] = made["jwk"]
	}
	data["skip_import_rotation"] = data[field] != nil
	r.write("secrets/"+r.source+"/"+r.name(), data)
	if field == "private_key" {
		creds := r.read("creds/" + r.source + "/" + r.name())
		if kid := r.foreign.call(map[string]any{"operation": "thumbprint", "jwk": creds["public_jwk"]}); kid != creds["kid"] {
			r.Errorf("%s %s: kid is %v, and jose computes %v", r.algorithm, r.source, creds["kid"], kid)
		}
	}
}

// sign has a token signed by the engine.
func (r *trial) sign() string {
	r.Helper()
	r.creds = r.read("creds/" + r.source + "/" + r.name())
	return text(r.write("jwt/"+r.source+"/"+r.name()+"/sign", map[string]any{"claims": map[string]any{"sub": r.source}}), "token")
}

// url is that of the key set.
func (r *trial) url() string {
	return r.client.Address() + "/v1/" + r.path + "/jwks/" + r.source + "/" + r.name()
}

// verifiers lists the libraries that verify tokens of the algorithm: through the
// key set, and with a key from creds.
func (r *trial) verifiers() (bySet, byKey []string) {
	switch {
	case jwt.Symmetric(r.algorithm):
		return nil, []string{"jose", "jsonwebtoken"}
	case r.algorithm == "EdDSA": // which jsonwebtoken does not have
		return []string{"jose", "jwks-rsa and jose"}, nil
	}
	return []string{"jose", "jwks-rsa"}, []string{"jsonwebtoken"}
}

// accepted lets every library verify one of our tokens.
func (r *trial) accepted(token string) {
	r.Helper()
	bySet, byKey := r.verifiers()
	for _, library := range bySet {
		r.verified(library, "JWKS", map[string]any{"token": token, "url": r.url()})
	}
	if status := r.publicly("jwks/" + r.source + "/" + r.name()).status; len(bySet) == 0 && status != http.StatusNotFound {
		r.Errorf("%s: the key set is answered %d", r.algorithm, status)
	}
	for _, library := range byKey {
		request := map[string]any{"token": token, "key": r.creds["public_key"]}
		if jwt.Symmetric(r.algorithm) {
			request = map[string]any{"token": token, "secret": r.creds["secret"]}
		}
		r.verified(library, "sign", request)
	}
	if !jwt.Symmetric(r.algorithm) {
		opensslVerify(r.T, r.algorithm, text(r.creds, "public_key"), token)
		r.did("sign", "openssl")
	}
}

// across verifies a token from before a rotation, with clients that have kept the
// key set since, and that have no reason to read it again.
func (r *trial) across(token string) {
	r.Helper()
	bySet, _ := r.verifiers()
	for _, library := range bySet {
		r.verified(library, "JWKS", map[string]any{"token": token, "url": r.url()})
	}
	got := r.write("jwt/"+r.source+"/"+r.name()+"/verify", map[string]any{"token": token})
	if got["valid"] != true || got["stage"] != "previous" {
		r.Errorf("%s %s: a token from before the rotation is %v", r.algorithm, r.source, got["error"])
	}
}

func (r *trial) verified(library, what string, request map[string]any) {
	r.Helper()
	request["operation"], request["library"], request["algorithm"] = "verify", library, r.algorithm
	claims, ok := r.foreign.call(request).(map[string]any)
	if !ok || claims["sub"] != r.source {
		r.Errorf("%s %s: %s makes of our token %v", r.algorithm, r.source, library, claims)
		return
	}
	r.did(what, library)
}

// theirs verifies tokens that other libraries sign with the exported key.
func (r *trial) theirs() {
	r.Helper()
	libraries := []string{"jose", "jsonwebtoken"}
	if r.algorithm == "EdDSA" {
		libraries = libraries[:1]
	}
	for _, library := range libraries {
		request := map[string]any{
			"operation": "sign", "library": library, "algorithm": r.algorithm, "kid": r.creds["kid"],
			"jwk": r.creds["private_jwk"], "key": r.creds["private_key"], "secret": r.creds["secret"],
			"claims": map[string]any{"sub": "theirs", "exp": 4102444800},
		}
		token, _ := r.foreign.call(request).(string)
		got := r.write("jwt/"+r.source+"/"+r.name()+"/verify", map[string]any{"token": token})
		if got["valid"] != true || got["stage"] != "current" {
			r.Errorf("%s %s: a token that %s signed is refused: %v", r.algorithm, r.source, library, got["error"])
			continue
		}
		r.did("verify", library)
	}
}

func (r *trial) did(what, library string) {
	if !slices.Contains(r.done[what], library) {
		r.done[what] = append(r.done[what], library)
	}
}

// table shows which library did what with which key. A symmetric key is in no set.
func table(trials []*trial) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-9s  %-18s  %-28s  %-20s  %s\n", "algorithm", "key", "our token verified with key", "theirs by us", "ours through the JWKS")
	for _, r := range trials {
		key := "import, " + r.source
		if r.source == "generate" {
			key = r.source
		}
		list := func(what string) string { return strings.Join(r.done[what], ", ") }
		set := list("JWKS")
		if jwt.Symmetric(r.algorithm) {
			set = "none: 404"
		}
		fmt.Fprintf(&b, "%-9s  %-18s  %-28s  %-20s  %s\n", r.algorithm, key, list("sign"), list("verify"), set)
	}
	return b.String()
}
