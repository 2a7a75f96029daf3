package jwt

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestImportForms takes each form that private keys are kept in, and signs with it
// what the public key of the original verifies.
func TestImportForms(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	expect.OK(t, err)
	e, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	expect.OK(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	expect.OK(t, err)
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		expect.OK(t, err)
		return encodePEM("PRIVATE KEY", der)
	}
	sec1, err := x509.MarshalECPrivateKey(e)
	expect.OK(t, err)
	jwk := func(key any) string {
		text, err := (&signingKey{algorithm: "", kid: "theirs"}).jwk(key).MarshalJSON()
		expect.OK(t, err)
		return string(text)
	}
	for name, c := range map[string]struct {
		algorithm, text string
		public          any
	}{
		"PKCS #1":       {"PS256", encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), r.Public()},
		"PKCS #8, RSA":  {"RS512", "# a comment before it\n" + pkcs8(r), r.Public()},
		"PKCS #8, EC":   {"ES384", pkcs8(e) + "\n\n", e.Public()},
		"PKCS #8, Ed":   {"EdDSA", pkcs8(ed), ed.Public()},
		"SEC 1":         {"ES384", encodePEM("EC PRIVATE KEY", sec1), e.Public()},
		"with parts":    {"ES384", encodePEM("EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}) + encodePEM("EC PRIVATE KEY", sec1), e.Public()},
		"JWK, RSA":      {"RS256", jwk(r), r.Public()},
		"JWK, EC":       {"ES384", "\n " + jwk(e), e.Public()},
		"JWK, Ed25519":  {"EdDSA", jwk(ed), ed.Public()},
		"JWK, RFC 9864": {"EdDSA", strings.Replace(jwk(ed), `"kty"`, `"alg":"Ed25519","kty"`, 1), ed.Public()},
		"by that name":  {"Ed25519", strings.Replace(jwk(ed), `"kty"`, `"alg":"EdDSA","kty"`, 1), ed.Public()},
		"both names":    {"Ed25519", pkcs8(ed), ed.Public()},
		"JWK, no parts": {"RS256", withoutParts(t, jwk(r)), r.Public()},
	} {
		s := conformance.SecretOf(t, "jwt", Config{Algorithm: c.algorithm})
		v, err := driver{}.Import(s, c.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		expect.OK(t, driver{}.Test(t.Context(), s, v))
		key, err := parseKey(v)
		expect.OK(t, err)
		token, err := key.sign(map[string]any{"exp": time.Now().Add(time.Minute).Unix()})
		expect.OK(t, err)
		theirs := &Keyring{current: &signingKey{algorithm: AlgorithmName(c.algorithm), kid: key.kid, public: c.public}}
		if got := theirs.Verify(token, time.Now()); !got.Valid() {
			t.Errorf("%s: the original does not verify what the import signs: %s", name, got.Refusal)
		}
		if want := strings.HasPrefix(strings.TrimSpace(c.text), "{") && name != "JWK, no parts"; (v["kid"] == "theirs") != want {
			t.Errorf("%s: it has the kid %s", name, v["kid"])
		}
	}
}

// withoutParts leaves out of a JWK what RFC 7518 section 6.3.2 calls optional, but
// for the primes, and its kid.
func withoutParts(t *testing.T, jwk string) string {
	t.Helper()
	var parts map[string]any
	expect.OK(t, json.Unmarshal([]byte(jwk), &parts))
	for _, name := range []string{"dp", "dq", "qi", "kid", "use"} {
		delete(parts, name)
	}
	text, err := json.Marshal(parts)
	expect.OK(t, err)
	return string(text)
}

// TestImportOfKeysRefused names what is wrong, and quotes nothing of the key.
func TestImportOfKeysRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // It is to be refused.
	expect.OK(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	expect.OK(t, err)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	expect.OK(t, err)
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		expect.OK(t, err)
		return encodePEM("PRIVATE KEY", der)
	}
	p256 := foreignPEM(t, "ES256", 0)
	for name, c := range map[string]struct{ algorithm, text, word string }{
		"no key":              {"ES256", "MARKER MARKER", "neither PEM nor a JWK"},
		"EC for RSA":          {"RS256", p256, "P-256"},
		"another curve":       {"ES384", p256, "curve P-256, which ES384 does not use"},
		"EC for Ed25519":      {"EdDSA", p256, "P-256"},
		"Ed25519 for EC":      {"ES256", edKey8037, "Ed25519 key"},
		"RSA for EC":          {"ES256", rsaKey7515, "RSA key"},
		"too small":           {"RS256", pkcs8(small), "1024 bits, and key_bits is 2048"},
		"no such curve":       {"ES256", pkcs8(p224), "P-224"},
		"no signatures":       {"EdDSA", pkcs8(x25519), "not a private key for signing"},
		"a public key":        {"ES256", publicOf(t, p256), "something else than a private key"},
		"a certificate":       {"ES256", encodePEM("CERTIFICATE", []byte("MARKER")), "something else than a private key"},
		"two keys":            {"ES256", p256 + p256, "more after the first key"},
		"encrypted":           {"ES256", encodePEM("ENCRYPTED PRIVATE KEY", []byte("MARKER")), "is encrypted"},
		"encrypted, old":      {"RS256", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nTUFSS0VS\n-----END RSA PRIVATE KEY-----\n", "is encrypted"},
		"damaged":             {"ES256", encodePEM("PRIVATE KEY", []byte("MARKER")), "is damaged"},
		"JWK of nothing":      {"ES256", `{}`, "not the JWK"},
		"JWK, no JSON":        {"ES256", `{"MARKER`, "not the JWK"},
		"JWK set":             {"ES256", `{"keys":[` + p256Key7515 + `]}`, "not the JWK"},
		"JWK, symmetric":      {"ES256", `{"kty":"oct","k":"` + hmacKey7515 + `"}`, "not a private key for signing"},
		"JWK, public":         {"ES256", p256Key7515[:strings.Index(p256Key7515, `,"d"`)] + "}", "not a private key"},
		"JWK, another alg":    {"RS256", strings.Replace(rsaKey7515, `"kty"`, `"alg":"PS256","kty"`, 1), "another alg"},
		"JWK, of Ed448":       {"EdDSA", strings.Replace(edKey8037, `"kty"`, `"alg":"Ed448","kty"`, 1), "another alg"},
		"JWK, Ed25519 for EC": {"ES256", strings.Replace(p256Key7515, `"kty"`, `"alg":"Ed25519","kty"`, 1), "another alg"},
		"JWK, to encrypt":     {"ES256", strings.Replace(p256Key7515, `"kty"`, `"use":"enc","kty"`, 1), "use"},
		"JWK, endless kid":    {"ES256", strings.Replace(p256Key7515, `"kty"`, `"kid":"`+strings.Repeat("MARKER", 50)+`","kty"`, 1), "kid"},
		"JWK, kid of lines":   {"ES256", strings.Replace(p256Key7515, `"kty"`, `"kid":"a\nb","kty"`, 1), "kid"},
		"JWK, off the curve":  {"ES256", strings.Replace(p256Key7515, "x_FEzRu9m36", "x_FEzRu9m37", 1), "not the JWK"},
		"JWK, other private":  {"ES256", strings.Replace(p256Key7515, "jpsQnnGQmL", "jpsQnnGQmM", 1), "damaged"},
		"JWK, other Ed25519":  {"EdDSA", strings.Replace(edKey8037, "nWGxne", "nWGxnf", 1), "damaged"},
		"JWK, other exponent": {"RS256", strings.Replace(rsaKey7515, `"d":"Eq5x`, `"d":"Eq5y`, 1), ""},
		"JWK, huge":           {"RS256", `{"kty":"RSA","n":"` + strings.Repeat("x", maxImport) + `"}`, "the limit is"},
	} {
		s := conformance.SecretOf(t, "jwt", Config{Algorithm: c.algorithm})
		v, err := driver{}.Import(s, c.text)
		if err == nil {
			t.Errorf("%s: it is taken, and tried: %v", name, driver{}.Test(t.Context(), s, v))
			continue
		}
		expect.Invalid(t, err, "private_key", c.word)
		if strings.Contains(err.Error(), "MARKER") {
			t.Errorf("%s: %v quotes the key", name, err)
		}
	}
}

// publicOf is the public key of a private one.
func publicOf(t *testing.T, text string) string {
	t.Helper()
	key, err := parsePrivate(text)
	expect.OK(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	expect.OK(t, err)
	return encodePEM("PUBLIC KEY", der)
}

// TestExportable shows the private key only to whom the configuration lets have it,
// and never as a part of the previous value.
func TestExportable(t *testing.T) {
	for _, exportable := range []bool{false, true} {
		s := conformance.SecretOf(t, "jwt", Config{Algorithm: "ES512", Exportable: exportable})
		v, err := driver{}.Create(t.Context(), s)
		expect.OK(t, err)
		fields, err := driver{}.Fields(s, v)
		expect.OK(t, err)
		if (fields["private_key"] != "") != exportable || (fields["private_jwk"] != "") != exportable {
			t.Errorf("exportable %v: it has %d fields", exportable, len(fields))
		}
		if key := readKey(t, fields["public_jwk"]); !key.IsPublic() || key.KeyID != fields["kid"] || key.Algorithm != "ES512" || key.Use != "sig" {
			t.Errorf("the public key is %+v", key)
		}
		previous := driver{}.PreviousFields(v)
		if len(previous) != 3 || previous["previous_algorithm"] != fields["algorithm"] || previous["previous_public_key"] != fields["public_key"] {
			t.Errorf("of the previous there are %d fields", len(previous))
		}
	}
}

// TestFits compares what was made ahead with the configuration of now.
func TestFits(t *testing.T) {
	made, err := driver{}.Create(t.Context(), conformance.SecretOf(t, "jwt", Config{Algorithm: "RS256"}))
	expect.OK(t, err)
	for c, fits := range map[kind]bool{
		{"RS256", 0}: true, {"RS256", 2048}: true, {"RS256", 3072}: false, {"PS256", 0}: false, {"ES256", 0}: false, {"HS256", 0}: false,
	} {
		if got := (driver{}).Fits(conformance.SecretOf(t, "jwt", Config{Algorithm: c.algorithm, KeyBits: c.bits}), made); got != fits {
			t.Errorf("it fits %v: %v", c, got)
		}
	}
	if (driver{}).Fits(conformance.SecretOf(t, "jwt", Config{Algorithm: "RS256"}), rotation.Material{"algorithm": "RS256"}) {
		t.Error("what is no key fits")
	}
}

// kind is what keys depend on.
type kind struct {
	algorithm string
	bits      int
}

// FuzzImportKey imports anything as a key: it is refused as invalid, or it is one
// that signs and verifies, and that can be read again.
func FuzzImportKey(f *testing.F) {
	for i, seed := range []string{p256Key7515, edKey8037, p521Key7515, rsaKey7638, `{"kty":"oct","k":"AA"}`, `{"kty":"EC"}`, "-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----"} {
		f.Add(uint8(i), seed) //nolint:gosec // There are few.
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		algorithms := slices.DeleteFunc(slices.Clone(Algorithms), Symmetric)
		s := conformance.SecretOf(t, "jwt", Config{Algorithm: algorithms[int(which)%len(algorithms)]})
		v, err := driver{}.Import(s, text)
		if err != nil {
			if !errors.Is(err, rotation.ErrInvalid) {
				t.Fatalf("%v is not about the request", err)
			}
			return
		}
		if err := (driver{}).Test(t.Context(), s, v); err != nil {
			t.Fatalf("what was taken does not work: %v", err)
		}
		if !(driver{}).Fits(s, v) {
			t.Fatal("what was taken does not fit")
		}
	})
}

// FuzzVerifyToken judges anything as a token: only what the key has signed is
// accepted, and the refusal is one of those there are.
func FuzzVerifyToken(f *testing.F) {
	ring := ringOf(f, "ES256", p256Key7515)
	token := forged(`{"alg":"ES256"}`, `{`+farOff+`}`, by(f, ring.current))
	for _, seed := range []string{token, es256, rs256, hs256, unsecured, es512, edDSA, "a.b.c", "e30.e30.", token + "=", "eyJhbGciOiJFUzI1NiIsImNyaXQiOltdfQ.e30.AA"} {
		f.Add(seed)
	}
	now := time.Unix(2_000_000_000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		got := ring.Verify(text, now)
		if got.Valid() && text[:strings.LastIndex(text, ".")] != token[:strings.LastIndex(token, ".")] {
			t.Fatalf("%q is accepted", text)
		}
		known := slices.ContainsFunc(reasons, func(r claimRefusal) bool { return r.text == got.Refusal })
		if !known && !slices.Contains([]string{"", refusedForm, refusedCritical, refusedKID, refusedAlgorithm, refusedSignature}, got.Refusal) {
			t.Fatalf("%q is no reason", got.Refusal)
		}
	})
}
