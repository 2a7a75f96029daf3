package jwt

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The examples of the RFCs. Tokens of RFC 7515 expired on 2011-03-22T18:43:00Z.
const (
	payload7515 = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	// RFC 7515 appendix A.1
	hmacKey7515 = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
	hs256       = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + payload7515 + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	// RFC 7515 appendix A.2
	rsaKey7515 = `{"kty":"RSA",
		"n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
		"e":"AQAB",
		"d":"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
		"p":"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
		"q":"uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
		"dp":"BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
		"dq":"h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
		"qi":"IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"}`
	rs256 = "eyJhbGciOiJSUzI1NiJ9." + payload7515 + ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
	// RFC 7515 appendix A.3
	p256Key7515 = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}`
	es256       = "eyJhbGciOiJFUzI1NiJ9." + payload7515 + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
	// RFC 7515 appendix A.4
	p521Key7515 = `{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2","d":"AY5pb7A0UFiB3RELSD64fTLOSV_jazdF7fLYyuTw8lOfRhWg6Y6rUrPAxerEzgdRhajnu0ferB0d53vM9mE15j2C"}`
	es512       = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
	// RFC 7515 appendix A.5
	unsecured = "eyJhbGciOiJub25lIn0." + payload7515 + "."
	// RFC 8037 appendix A
	edKey8037 = `{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	edDSA     = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	edKID     = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
	// RFC 7638 section 3.1
	rsaKey7638 = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	rsaKID     = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
)

// before7515 is when the tokens of RFC 7515 were still valid.
var before7515 = time.Unix(1300819380, 0).Add(-time.Minute)

// ringOf is the keyring of one imported key.
func ringOf(t testing.TB, algorithm, imported string) *Keyring {
	t.Helper()
	m := rotation.Material{"algorithm": algorithm, "kid": "k", "secret": imported}
	if !Symmetric(algorithm) {
		var err error
		if m, err = importKey(algorithm, defaultKeyBits, imported); err != nil {
			t.Fatal(err)
		}
	}
	key, err := parseKey(m)
	if err != nil {
		t.Fatal(err)
	}
	return &Keyring{current: key}
}

func decode64(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestTokensOfRFC7515 verifies the examples as they are printed there.
func TestTokensOfRFC7515(t *testing.T) {
	for _, c := range []struct{ algorithm, key, token string }{
		{"HS256", string(decode64(t, hmacKey7515)), hs256}, {"RS256", rsaKey7515, rs256}, {"ES256", p256Key7515, es256},
	} {
		ring := ringOf(t, c.algorithm, c.key)
		got := ring.Verify(c.token, before7515)
		if !got.Valid() || got.Claims["iss"] != "joe" || got.Claims["http://example.com/is_root"] != true || got.Stage != "current" {
			t.Errorf("%s: %+v", c.algorithm, got)
		}
		if late := ring.Verify(c.token, before7515.Add(3*time.Minute)); late.Valid() || !strings.Contains(late.Refusal, "expired") || late.Claims != nil {
			t.Errorf("%s, too late: %+v", c.algorithm, late)
		}
		if got := ring.Verify(unsecured, before7515); got.Valid() {
			t.Errorf("%s: the unsecured token of appendix A.5 is accepted", c.algorithm)
		}
	}
}

// TestSignaturesOfTheRFCs makes the signatures that are printed there, where the
// algorithm is deterministic, and verifies the others.
func TestSignaturesOfTheRFCs(t *testing.T) {
	for _, c := range []struct{ algorithm, key, token string }{
		{"RS256", rsaKey7515, rs256}, {"ES256", p256Key7515, es256}, {"ES512", p521Key7515, es512}, {"EdDSA", edKey8037, edDSA},
	} {
		key := ringOf(t, c.algorithm, c.key).current
		at := strings.LastIndex(c.token, ".")
		signature := decode64(t, c.token[at+1:])
		if err := method(c.algorithm).Verify(c.token[:at], signature, key.public); err != nil {
			t.Errorf("%s: %v", c.algorithm, err)
		}
		if made, err := method(c.algorithm).Sign(c.token[:at], key.private); err != nil || !strings.HasPrefix(c.algorithm, "ES") && !bytes.Equal(made, signature) {
			t.Errorf("%s makes another signature: %v", c.algorithm, err)
		}
	}
}

// TestBothNamesOfEd25519 verifies tokens whose header has the name of RFC 9864, by keys
// that have either, and takes it for nothing else.
func TestBothNamesOfEd25519(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	expect.OK(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	expect.OK(t, err)
	token := func(algorithm string, signed bool) string {
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + algorithm + `","typ":"JWT"}`))
		text := header + "." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, time.Now().Add(time.Minute).Unix()))
		if !signed {
			return text + "." + base64.RawURLEncoding.EncodeToString(make([]byte, ed25519.SignatureSize))
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(text)))
	}
	for _, name := range []string{"EdDSA", "Ed25519"} {
		s := conformance.SecretOf(t, "jwt", Config{Algorithm: name})
		v, err := driver{}.Import(s, encodePEM("PRIVATE KEY", der))
		expect.OK(t, err)
		if s.Current = (&rotation.Value{Material: v}); !(driver{}).Fits(s, v) {
			t.Errorf("algorithm %s does not fit its own key", name)
		}
		ring, err := NewKeyring(s)
		expect.OK(t, err)
		for _, header := range []string{"EdDSA", "Ed25519"} {
			if got := ring.Verify(token(header, true), time.Now()); !got.Valid() {
				t.Errorf("algorithm %s, header %s: %s", name, header, got.Refusal)
			}
			if got := ring.Verify(token(header, false), time.Now()); got.Refusal != refusedSignature {
				t.Errorf("algorithm %s, header %s, not signed: %+v", name, header, got)
			}
		}
		for _, header := range []string{"Ed448", "ed25519", "ED25519", "ES256", "none", ""} {
			if got := ring.Verify(token(header, true), time.Now()); got.Valid() {
				t.Errorf("algorithm %s: header %q is accepted", name, header)
			}
		}
		if keys := string(ring.Published(time.Now()).Document); !strings.Contains(keys, `"alg":"EdDSA"`) {
			t.Errorf("the key set is %s", keys)
		}
	}
	if got := ringOf(t, "ES256", p256Key7515).Verify(token("Ed25519", true), time.Now()); got.Valid() {
		t.Error("a key of another kind takes it")
	}
}

// TestThumbprints are those of RFC 7638 section 3.1 and RFC 8037 appendix A.3.
func TestThumbprints(t *testing.T) {
	if got := ringOf(t, "EdDSA", edKey8037).current.kid; got != edKID {
		t.Errorf("of RFC 8037 it is %s", got)
	}
	var key jose.JSONWebKey
	expect.OK(t, json.Unmarshal([]byte(rsaKey7638), &key))
	if got, err := thumbprint(key.Key); err != nil || got != rsaKID {
		t.Errorf("of RFC 7638 it is %s, %v", got, err)
	}
}

// round, with the keys as creds shows them.
func TestAnotherLibrary(t *testing.T) {
	for _, algorithm := range Algorithms {
		s := conformance.SecretOf(t, "jwt", Config{Algorithm: algorithm, Exportable: true})
		v, err := driver{}.Create(t.Context(), s)
		expect.OK(t, err)
		fields, err := driver{}.Fields(s, v)
		expect.OK(t, err)
		private, public := any([]byte(fields["secret"])), any([]byte(fields["secret"]))
		if !Symmetric(algorithm) {
			private, public = readKey(t, fields["private_jwk"]), readKey(t, fields["public_jwk"])
		}
		s.Current = &rotation.Value{Material: v}
		ring, err := NewKeyring(s)
		expect.OK(t, err)
		ours, kid, err := ring.Sign(map[string]any{"sub": "ours", "exp": time.Now().Add(time.Minute).Unix()})
		expect.OK(t, err)
		parsed, err := jose.ParseSigned(ours, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(algorithm)})
		expect.OK(t, err)
		if claims, err := parsed.Verify(public); err != nil || !bytes.Contains(claims, []byte(`"sub":"ours"`)) || parsed.Signatures[0].Header.KeyID != kid {
			t.Errorf("%s: go-jose makes of ours %s, %v", algorithm, claims, err)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: private}, nil)
		expect.OK(t, err)
		signed, err := signer.Sign([]byte(`{"sub":"theirs","exp":4102444800}`))
		expect.OK(t, err)
		theirs, err := signed.CompactSerialize()
		expect.OK(t, err)
		if got := ring.Verify(theirs, time.Now()); !got.Valid() || got.Claims["sub"] != "theirs" {
			t.Errorf("%s: of go-jose's we make %+v", algorithm, got)
		}
	}
}

// readKey reads a JWK as go-jose does.
func readKey(t *testing.T, text string) jose.JSONWebKey {
	t.Helper()
	var key jose.JSONWebKey
	expect.OK(t, json.Unmarshal([]byte(text), &key))
	return key
}
