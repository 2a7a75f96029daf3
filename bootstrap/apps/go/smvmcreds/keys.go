package smvmcreds

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// stageOf returns what the fields of the key with that id begin with: nothing for
// the current key, previous_ for the previous one. Known is false for any other.
func (c *Credentials) stageOf(secret, kid string) (stage string, known bool) {
	for _, stage := range []string{"", "previous_"} {
		if kid != "" && kid == c.Value(secret, stage+"kid") {
			return stage, true
		}
	}
	return "", false
}

// verificationKey returns the key of a stage for a token that is signed by
// method. Where the previous algorithm is not told, it is the current one.
func (c *Credentials) verificationKey(secret, stage string, method jwt.SigningMethod) (any, error) {
	algorithm := cmp.Or(c.Value(secret, stage+"algorithm"), c.Value(secret, "algorithm"))
	if method.Alg() != algorithm {
		return nil, fmt.Errorf("%w: the algorithm is %s, and the key is for %s", ErrUnknownKey, method.Alg(), algorithm)
	}
	if key := c.Value(secret, stage+"secret"); key != "" {
		return []byte(key), nil
	}
	block, _ := pem.Decode([]byte(c.Value(secret, stage+"public_key")))
	if block == nil {
		return nil, ErrUnknownKey
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s_%spublic_key: %w", secret, stage, err)
	}
	return key, nil
}

// signingKey returns the key that signs; nil if it is not among the credentials.
// Its errors show nothing of it.
func (c *Credentials) signingKey(secret string) (any, error) {
	if key := c.Value(secret, "secret"); key != "" {
		return []byte(key), nil
	}
	text := c.Value(secret, "private_key")
	if text == "" {
		return nil, nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the private key is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key is no PKCS #8")
	}
	return key, nil
}
