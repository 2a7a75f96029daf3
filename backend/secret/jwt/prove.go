package jwt

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// proveKey returns what it proved about a key, up to the first thing that is not
// as it should be. Tokens are judged as the engine and the applications judge
// them, which accept the key and its algorithm and nothing else.
func proveKey(s rotation.Secret, v rotation.Material) (proofs []string, err error) {
	key, err := parseKey(v)
	if err != nil {
		return nil, err
	}
	ring := &Keyring{current: key}
	claims := map[string]any{"sub": s.Name, "exp": time.Now().Add(time.Minute).Unix()}
	token, err := key.sign(claims)
	if err != nil {
		return nil, err
	}
	if found := ring.Verify(token, time.Now()); !found.Valid() {
		return nil, fmt.Errorf("verify token signed with kid %s: %s", key.kid, found.Refusal)
	}
	proofs = append(proofs, fmt.Sprintf("token signed with %s, kid %s, verified", key.algorithm, key.kid))
	forgeries, err := forge(key, token, claims)
	if err != nil {
		return proofs, err
	}
	for _, forgery := range forgeries {
		if ring.Verify(forgery.token, time.Now()).Valid() {
			return proofs, fmt.Errorf("%s was accepted", forgery.what)
		}
		proofs = append(proofs, forgery.what+" refused")
	}
	return proofs, nil
}

// forgery is a token that must be refused.
type forgery struct{ what, token string }

// forge makes the tokens that attackers make of what they have: another key, the
// public key, and a token.
func forge(key *signingKey, token string, claims map[string]any) ([]forgery, error) {
	parts := strings.Split(token, ".")
	unsigned, err := (&signingKey{algorithm: "none", kid: key.kid, private: jwt.UnsafeAllowNoneSignatureType}).sign(claims)
	if err != nil {
		return nil, err
	}
	changed, err := json.Marshal(map[string]any{"sub": "another", "exp": claims["exp"]})
	if err != nil {
		return nil, fmt.Errorf("encode claims: %w", err)
	}
	forgeries := []forgery{
		{"token with algorithm none", unsigned},
		{"token without a signature", parts[0] + "." + parts[1] + "."},
		{"token whose claims were changed", parts[0] + "." + (&jwt.Token{}).EncodeSegment(changed) + "." + parts[2]},
	}
	others := impostors(key)
	for _, what := range slices.Sorted(maps.Keys(others)) {
		with := others[what]
		with.kid = key.kid
		forged, err := with.sign(claims)
		if err != nil {
			return nil, fmt.Errorf("sign %s: %w", what, err)
		}
		forgeries = append(forgeries, forgery{what, forged})
	}
	return forgeries, nil
}

// impostors are keys that must not pass for key: one of the same algorithm, one of
// the same kind with another algorithm, and the public key as that of an HMAC.
func impostors(key *signingKey) map[string]*signingKey {
	another := &signingKey{algorithm: key.algorithm, private: otherKey(key)}
	confused := &signingKey{algorithm: confusion[key.algorithm], private: key.private}
	made := map[string]*signingKey{"token signed with another key": another, "token signed with " + confused.algorithm: confused}
	if Symmetric(key.algorithm) {
		return made
	}
	if !isRSA(key.algorithm) {
		confused.private = otherKey(confused)
	}
	for _, form := range []string{"PEM", "DER", "JWK"} {
		made["token signed with HS256 and the public key as "+form] = &signingKey{algorithm: "HS256", private: key.encoded(form)}
	}
	return made
}

// encoded is the public key as attackers use it for an HMAC.
func (k *signingKey) encoded(form string) []byte {
	if form == "JWK" {
		jwk, _ := json.Marshal(k.jwk(k.public)) // works for every key that was parsed, as below
		return jwk
	}
	der, _ := x509.MarshalPKIXPublicKey(k.public)
	if form == "PEM" {
		return []byte(encodePEM("PUBLIC KEY", der))
	}
	return der
}

// confusion is the algorithm that an attacker would rather have than the key's:
// another hash, another padding, another curve.
var confusion = map[string]string{
	"HS256": "HS512", "HS384": "HS256", "HS512": "HS256",
	"RS256": "PS256", "RS384": "PS384", "RS512": "PS512",
	"PS256": "RS256", "PS384": "RS384", "PS512": "RS512",
	"ES256": "EdDSA", "ES384": "ES256", "ES512": "ES256", "EdDSA": "ES256",
}

// otherKey is a key of the same kind as key, for its algorithm. One that takes long to
// make is made once: no token of it is ever accepted.
func otherKey(key *signingKey) any {
	switch {
	case Symmetric(key.algorithm):
		return randomBytes(64)
	case isRSA(key.algorithm):
		return otherKeys["RS256"]() // which is one for any algorithm of RSA
	}
	return otherKeys[key.algorithm]()
}

// otherKeys make a key for each algorithm, or return the one they have made.
var otherKeys = func() map[string]func() crypto.Signer {
	made := map[string]func() crypto.Signer{}
	for algorithm := range confusion {
		made[algorithm] = sync.OnceValue(func() crypto.Signer {
			key, err := makeKey(algorithm, defaultKeyBits)
			if err != nil {
				panic("secret: internal error: " + err.Error())
			}
			return key
		})
	}
	return made
}()
