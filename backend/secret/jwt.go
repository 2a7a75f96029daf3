package secret

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

var _ Type = jwtType{}

// JWTConfig configures a key that signs JSON Web Tokens.
type JWTConfig struct {
	// Algorithm is HS256, HS384 or HS512 (RFC 7518 section 3.2); empty means HS256.
	Algorithm string `json:"algorithm,omitempty"`
}

// hmacKeyBytes is the least length of a key in bytes: RFC 7518 section 3.2
// demands at least the size of the hash.
var hmacKeyBytes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// jwtType is the type "jwt". Its material is "algorithm", "kid" and "secret".
// The HMAC key is the bytes of the string "secret" exactly as they are read, not
// what its hexadecimal digits stand for: that is what jwt.encode(claims, secret)
// does in every language, and what the manual procedure did with the output of
// openssl rand -hex 64.
type jwtType struct{ local }

// Validate implements Type.
func (jwtType) Validate(config json.RawMessage) error {
	_, err := jwtAlgorithm(config)
	return err
}

// Create makes 64 random bytes, written as 128 hexadecimal digits, and a kid
// that tells nothing about them.
func (jwtType) Create(ctx context.Context, s rotation.Secret) (rotation.Material, error) {
	algorithm, err := jwtAlgorithm(s.Config)
	if err != nil {
		return nil, err
	}
	return jwtMaterial(algorithm, hex.EncodeToString(randomBytes(64))), ctx.Err()
}

// Import takes a key in use elsewhere; it gets a kid of its own.
func (jwtType) Import(s rotation.Secret, supplied string) (rotation.Material, error) {
	algorithm, err := jwtAlgorithm(s.Config)
	if err != nil {
		return nil, err
	}
	if err := checkText("secret", supplied, maxValue); err != nil {
		return nil, err
	}
	if least := hmacKeyBytes[algorithm]; len(supplied) < least {
		return nil, invalid("secret", "has %d bytes, %s needs at least %d (RFC 7518 section 3.2): import a longer one, or let the engine make it", len(supplied), algorithm, least)
	}
	return jwtMaterial(algorithm, supplied), nil
}

// Test signs and verifies a token, and checks that a token signed with another
// key and one signed with none are refused.
func (jwtType) Test(ctx context.Context, _ rotation.Secret, v rotation.Material) error {
	if _, err := proveJWT(v); err != nil {
		return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	return ctx.Err()
}

// Preflight is Test: there is no target.
func (t jwtType) Preflight(ctx context.Context, s rotation.Secret, v rotation.Material) ([]string, error) {
	return nil, t.Test(ctx, s, v)
}

// Fields implements Type.
func (jwtType) Fields(_ rotation.Secret, v rotation.Material) (map[string]string, error) {
	if _, err := content(v, "secret"); err != nil {
		return nil, err
	}
	return map[string]string{"algorithm": v["algorithm"], "kid": v["kid"], "secret": v["secret"]}, nil
}

// PreviousFields lets applications verify the tokens that were signed before the
// cut-over.
func (jwtType) PreviousFields(previous rotation.Material) map[string]string {
	return map[string]string{"previous_kid": previous["kid"], "previous_secret": previous["secret"]}
}

// Verify implements Type.
func (jwtType) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	if s.Current == nil {
		return nil, errNoCurrent
	}
	proofs, err := proveJWT(s.Current.Material)
	return proofs, errors.Join(err, ctx.Err())
}

// errNoCurrent says that there is nothing to verify yet.
var errNoCurrent = errors.New("there is no current value")

func jwtAlgorithm(config json.RawMessage) (string, error) {
	c, err := decode[JWTConfig](config)
	if err != nil {
		return "", err
	}
	if c.Algorithm == "" {
		return "HS256", nil
	}
	if hmacKeyBytes[c.Algorithm] == 0 {
		return "", invalid("algorithm", "%q is not known: use HS256, HS384 or HS512", c.Algorithm)
	}
	return c.Algorithm, nil
}

func jwtMaterial(algorithm, secret string) rotation.Material {
	kid := hex.EncodeToString(randomBytes(8))
	return rotation.Material{"algorithm": algorithm, "kid": kid, "secret": secret}
}

// proveJWT returns what it proved about the key, up to the first thing that is
// not as it should be.
func proveJWT(v rotation.Material) (proofs []string, err error) {
	algorithm, key := v["algorithm"], []byte(v["secret"])
	if least := hmacKeyBytes[algorithm]; least == 0 || len(key) < least {
		return nil, errors.New("value is no key of a known algorithm, or too short for it")
	}
	if err := tryToken(jwt.GetSigningMethod(algorithm), key, v); err != nil {
		return nil, fmt.Errorf("verify token signed with kid %s: %w", v["kid"], err)
	}
	proofs = append(proofs, fmt.Sprintf("token signed with %s, kid %s, verified", algorithm, v["kid"]))
	if tryToken(jwt.GetSigningMethod(algorithm), randomBytes(64), v) == nil {
		return proofs, errors.New("token signed with another key was accepted")
	}
	proofs = append(proofs, "token signed with another key refused")
	if tryToken(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, v) == nil {
		return proofs, errors.New("token without a signature was accepted")
	}
	return append(proofs, "token with algorithm none refused"), nil
}

// tryToken signs a token by method and key and verifies it as an application
// does that accepts only the key and the algorithm of v.
func tryToken(method jwt.SigningMethod, key any, v rotation.Material) error {
	claims := jwt.RegisteredClaims{Subject: "smvm", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Minute))}
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = v["kid"]
	signed, err := token.SignedString(key)
	if err != nil {
		return errors.New("sign token: the key does not fit the algorithm")
	}
	_, err = jwt.ParseWithClaims(signed, &jwt.RegisteredClaims{},
		func(*jwt.Token) (any, error) { return []byte(v["secret"]), nil },
		jwt.WithValidMethods([]string{v["algorithm"]}), jwt.WithExpirationRequired())
	return err
}
