package jwt

import (
	"crypto/x509"
	"encoding/json"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var _ secret.Tokens = driver{}

// Digests implements secret.Values.
func (driver) Digests(v rotation.Material) ([]secret.Digest, error) {
	field := "private_key"
	if Symmetric(v["algorithm"]) {
		field = "secret"
	}
	key, err := v.Content(field)
	return []secret.Digest{secret.DigestOf(key)}, err
}

// Guesses are the text itself, and the form in which a private key is kept if the text
// is one in any form that can be imported.
func (driver) Guesses(text string) []secret.Digest {
	all := []secret.Digest{secret.DigestOf(text)}
	if kept := asKept(text); kept != "" {
		all = append(all, secret.DigestOf(kept))
	}
	return all
}

// maxGuess is the length in bytes above which a text is no key that can be imported: one of
// 4096 bits is shorter in every form. To parse a longer one could take hours.
const maxGuess = 4 << 10

// asKept writes a private key as keyMaterial does; empty if the text is none. A PEM may
// have its line breaks as \n, as in files of environment variables.
func asKept(text string) string {
	if len(text) > maxGuess {
		return ""
	}
	var key any
	if text = strings.TrimSpace(text); strings.HasPrefix(text, "{") {
		var jwk jose.JSONWebKey
		if json.Unmarshal([]byte(text), &jwk) != nil {
			return ""
		}
		key = jwk.Key
	} else {
		var err error
		if key, _, err = readPEM("", strings.ReplaceAll(text, `\n`, "\n")); err != nil {
			return ""
		}
	}
	signer, err := sound(key)
	if err != nil {
		return ""
	}
	private, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return ""
	}
	return encodePEM("PRIVATE KEY", private)
}

// KeyID implements secret.Tokens.
func (driver) KeyID(v rotation.Material) string { return v["kid"] }

// NamedKey implements secret.Tokens.
func (driver) NamedKey(text string) (id string, isToken bool) {
	_, kid, refusal := readHeader(strings.TrimSpace(text))
	if kid != nil {
		id = *kid
	}
	return id, refusal == ""
}

// Signed implements secret.Tokens.
func (driver) Signed(v rotation.Material, token string) bool {
	token = strings.TrimSpace(token)
	algorithm, kid, refusal := readHeader(token)
	if refusal != "" || AlgorithmName(algorithm) != v["algorithm"] || kid != nil && *kid != v["kid"] {
		return false
	}
	key, err := parseKey(v)
	if err != nil {
		return false
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{key.algorithm}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	_, err = parser.Parse(token, func(*jwt.Token) (any, error) { return key.public, nil })
	return err == nil
}
