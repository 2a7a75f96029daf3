package jwt

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// forged is a token with that header and those claims, signed by what sign does.
func forged(header, claims string, sign func(input string) string) string {
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	input := encode(header) + "." + encode(claims)
	return input + "." + sign(input)
}

// by signs with the key, whatever the header says.
func by(t testing.TB, key *signingKey) func(string) string {
	return func(input string) string {
		signature, err := method(key.algorithm).Sign(input, key.private)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(signature)
	}
}

const farOff = `"exp":4102444800`

// TestAttackTokens refuses the tokens that attacks on JSON Web Tokens are known
// by, and says why without showing anything of them.
func TestAttackTokens(t *testing.T) {
	ring := ringOf(t, "ES256", p256Key7515)
	key := ring.current
	good := by(t, key)
	none := func(string) string { return "" }
	mallory, err := makeKey("ES256", 0)
	expect.OK(t, err)
	own := &signingKey{algorithm: "ES256", private: mallory, public: mallory.Public()}
	embedded, err := json.Marshal(own.jwk(own.public))
	expect.OK(t, err)
	header := func(more string) string { return `{"alg":"ES256","kid":"` + key.kid + `"` + more + `}` }
	token := forged(header(""), `{`+farOff+`,"word":"MARKER"}`, good)
	if got := ring.Verify(token, time.Now()); !got.Valid() {
		t.Fatalf("the token that they are made of is refused: %s", got.Refusal)
	}
	der, err := base64.RawURLEncoding.DecodeString("MAYCAQECAQE")
	expect.OK(t, err)
	psychic := func(string) string { return base64.RawURLEncoding.EncodeToString(make([]byte, 64)) }
	for name, c := range map[string]struct{ token, reason string }{
		"nothing":                     {"", refusedForm},
		"no token":                    {"MARKER", refusedForm},
		"two parts":                   {strings.Join(strings.Split(token, ".")[:2], "."), refusedForm},
		"five parts":                  {token + ".MARKER.MARKER", refusedForm},
		"padded":                      {token + "=", refusedForm},
		"spaces":                      {" " + token, refusedForm},
		"a newline behind":            {token + "\n", refusedForm},
		"a newline within":            {token[:9] + "\r\n" + token[9:], refusedForm},
		"trailing bits":               {changeLast(token), ""},
		"header of no JSON":           {forged("MARKER", `{`+farOff+`}`, good), refusedForm},
		"header of a list":            {forged(`["MARKER"]`, `{`+farOff+`}`, good), refusedForm},
		"claims of no JSON":           {forged(header(""), "MARKER", good), refusedForm},
		"claims of a list":            {forged(header(""), `["MARKER"]`, good), refusedForm},
		"alg none":                    {forged(`{"alg":"none"}`, `{`+farOff+`}`, none), refusedAlgorithm},
		"alg None":                    {forged(`{"alg":"None"}`, `{`+farOff+`}`, none), refusedAlgorithm},
		"alg nOnE, signed":            {forged(`{"alg":"nOnE"}`, `{`+farOff+`}`, good), refusedAlgorithm},
		"no alg":                      {forged(`{"kid":"`+key.kid+`"}`, `{`+farOff+`}`, good), refusedAlgorithm},
		"alg of a number":             {forged(`{"alg":256}`, `{`+farOff+`}`, good), refusedAlgorithm},
		"alg in another case":         {forged(`{"alg":"es256"}`, `{`+farOff+`}`, good), refusedAlgorithm},
		"alg of another curve":        {forged(`{"alg":"ES384"}`, `{`+farOff+`}`, good), refusedAlgorithm},
		"no signature":                {forged(header(""), `{`+farOff+`}`, none), refusedSignature},
		"CVE-2022-21449, zeros":       {forged(header(""), `{`+farOff+`}`, psychic), refusedSignature},
		"signature in DER":            {forged(header(""), `{`+farOff+`}`, func(string) string { return base64.RawURLEncoding.EncodeToString(der) }), refusedSignature},
		"signature of other claims":   {forged(header(""), `{`+farOff+`,"admin":true}`, func(string) string { return token[strings.LastIndex(token, ".")+1:] }), refusedSignature},
		"CVE-2018-0114, own key":      {forged(`{"alg":"ES256","jwk":`+string(embedded)+`}`, `{`+farOff+`}`, by(t, own)), refusedSignature},
		"own key by URL":              {forged(`{"alg":"ES256","jku":"https://mallory.example/MARKER","x5u":"https://mallory.example"}`, `{`+farOff+`}`, by(t, own)), refusedSignature},
		"kid of a file":               {forged(`{"alg":"ES256","kid":"../../../dev/null"}`, `{`+farOff+`}`, good), refusedKID},
		"kid of a statement":          {forged(`{"alg":"ES256","kid":"x' UNION SELECT 'MARKER"}`, `{`+farOff+`}`, good), refusedKID},
		"kid empty":                   {forged(`{"alg":"ES256","kid":""}`, `{`+farOff+`}`, good), refusedKID},
		"kid of a number":             {forged(`{"alg":"ES256","kid":1}`, `{`+farOff+`}`, good), refusedForm},
		"kid null":                    {forged(`{"alg":"ES256","kid":null}`, `{`+farOff+`}`, good), refusedForm},
		"crit":                        {forged(header(`,"crit":["MARKER"],"MARKER":1`), `{`+farOff+`}`, good), refusedCritical},
		"crit empty":                  {forged(header(`,"crit":[]`), `{`+farOff+`}`, good), refusedCritical},
		"unencoded payload, RFC 7797": {forged(header(`,"b64":false,"crit":["b64"]`), `{`+farOff+`}`, good), refusedCritical},
		"no exp":                      {forged(header(""), `{"word":"MARKER"}`, good), "it lacks exp"},
		"exp null":                    {forged(header(""), `{"exp":null}`, good), ""},
		"exp of a text":               {forged(header(""), `{"exp":"4102444800MARKER"}`, good), "wrong type"},
		"exp beyond all numbers":      {forged(header(""), `{"exp":1e400}`, good), ""},
		"exp negative":                {forged(header(""), `{"exp":-1}`, good), "expired"},
		"exp twice":                   {forged(header(""), `{"exp":4102444800,"exp":1}`, good), "expired"},
		"nbf in the future":           {forged(header(""), `{`+farOff+`,"nbf":4102444000}`, good), "not valid yet"},
		"nbf of a list":               {forged(header(""), `{`+farOff+`,"nbf":[1]}`, good), "wrong type"},
		"iat in the future":           {forged(header(""), `{`+farOff+`,"iat":4102444000}`, good), "issued in the future"},
	} {
		got := ring.Verify(c.token, time.Now())
		if got.Valid() || got.Claims != nil || !strings.Contains(got.Refusal, c.reason) {
			t.Errorf("%s: it is %+v, want %q", name, got, c.reason)
		}
		if strings.Contains(got.Refusal, "MARKER") || c.token != "" && strings.Contains(got.Refusal, c.token) {
			t.Errorf("%s: %q shows something of the token", name, got.Refusal)
		}
	}
}

// changeLast changes the bits of the last character that stand for nothing.
func changeLast(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	at := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[at^1])
}

// TestConfusionIsRefused shows for every algorithm what the path verify proves: of
// all tokens that attackers make, none is accepted.
func TestConfusionIsRefused(t *testing.T) {
	for _, algorithm := range Algorithms {
		s := conformance.SecretOf(t, "jwt", Config{Algorithm: algorithm})
		v, err := driver{}.Create(t.Context(), s)
		expect.OK(t, err)
		s.Current = &rotation.Value{Material: v}
		proofs, err := driver{}.Verify(t.Context(), s)
		expect.OK(t, err)
		want := []string{
			"token signed with " + algorithm, "token with algorithm none refused", "token without a signature refused",
			"token whose claims were changed refused", "token signed with another key refused", "token signed with " + confusion[algorithm] + " refused",
		}
		if !Symmetric(algorithm) {
			want = append(want, "HS256 and the public key as PEM refused", "HS256 and the public key as DER refused", "HS256 and the public key as JWK refused")
		}
		for _, words := range want {
			if !slices.ContainsFunc(proofs, func(proof string) bool { return strings.Contains(proof, words) }) {
				t.Errorf("%s: %q is not proved: %q", algorithm, words, proofs)
			}
		}
	}
}

// TestClaimsThatAreFixed are verified as they are signed.
func TestClaimsThatAreFixed(t *testing.T) {
	ring := ringOf(t, "ES256", p256Key7515)
	ring.config = Config{Issuer: "orders", Audience: []string{"shop", "desk"}}
	for claims, reason := range map[string]string{
		`"iss":"orders","aud":"shop"`:           "",
		`"iss":"orders","aud":["other","desk"]`: "",
		`"iss":"others","aud":"shop"`:           "issuer",
		`"aud":"shop"`:                          "lacks",
		`"iss":["orders"],"aud":"shop"`:         "wrong type",
		`"iss":"orders","aud":"other"`:          "audience",
		`"iss":"orders"`:                        "lacks",
		`"iss":"orders","aud":7`:                "lacks",
	} {
		got := ring.Verify(forged(`{"alg":"ES256"}`, fmt.Sprintf("{%s,%s}", farOff, claims), by(t, ring.current)), time.Now())
		if got.Valid() != (reason == "") || !strings.Contains(got.Refusal, reason) || got.Stage != "current" {
			t.Errorf("%s: %+v, want %q", claims, got, reason)
		}
	}
}

// TestLeeway is a minute, for the times in tokens.
func TestLeeway(t *testing.T) {
	ring := ringOf(t, "ES256", p256Key7515)
	now := time.Unix(2_000_000_000, 0)
	for claims, valid := range map[string]bool{
		`"exp":1999999941`:                   true,
		`"exp":1999999940`:                   false,
		`"exp":2000000100,"nbf":2000000060`:  true,
		`"exp":2000000100,"nbf":2000000061`:  false,
		`"exp":2000000100,"iat":2000000060`:  true,
		`"exp":2000000100,"iat":2000000061`:  false,
		`"exp":2000000100.5,"nbf":1999999.5`: true,
	} {
		if got := ring.Verify(forged(`{"alg":"ES256"}`, "{"+claims+"}", by(t, ring.current)), now); got.Valid() != valid {
			t.Errorf("%s: %+v, want %v", claims, got, valid)
		}
	}
}
