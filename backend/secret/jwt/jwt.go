// Package jwt is the type of secret "jwt": keys that sign JSON Web Tokens, the key sets by
// which others verify them, and the signing and verifying here.
package jwt

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var (
	_ secret.Type    = driver{}
	_ rotation.Local = driver{}
)

// New returns the type "jwt".
func New() secret.Type { return driver{} }

// driver is the type "jwt". The material of every key is "algorithm" and "kid".
// That of a symmetric one also has "secret": the HMAC key is the bytes of that
// string exactly as they are read, not what its hexadecimal digits stand for,
// because that is what jwt.encode(claims, secret) does in every language, and
// what the manual procedure did with the output of openssl rand -hex 64. That of
// the others has "private_key" and "public_key", in PEM.
type driver struct{ secret.NoTarget }

// Validate implements secret.Type.
func (driver) Validate(config json.RawMessage) error {
	c, err := ReadConfig(config)
	if err != nil {
		return err
	}
	return c.checkClaimNames()
}

// Create makes a key: 64 random bytes, written as 128 hexadecimal digits, for an
// HMAC, and a pair of keys for everything else.
func (driver) Create(ctx context.Context, s rotation.Secret) (rotation.Material, error) {
	c, err := ReadConfig(s.Config)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if Symmetric(c.Algorithm) {
		return hmacMaterial(c.Algorithm, hex.EncodeToString(randomBytes(64))), nil
	}
	key, err := makeKey(c.Algorithm, c.KeyBits)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return keyMaterial(c.Algorithm, "", key)
}

// Import takes a key in use elsewhere: the text of an HMAC key, or a private key
// as PEM or JWK.
func (driver) Import(s rotation.Secret, supplied string) (rotation.Material, error) {
	c, err := ReadConfig(s.Config)
	if err != nil {
		return nil, err
	}
	if !Symmetric(c.Algorithm) {
		return importKey(c.Algorithm, c.KeyBits, supplied)
	}
	if err := input.CheckText("secret", supplied, secret.MaxValue); err != nil {
		return nil, err
	}
	if least := hmacKeyBytes[c.Algorithm]; len(supplied) < least {
		return nil, rotation.Invalid("secret", "has %d bytes, %s needs at least %d (RFC 7518 section 3.2): import a longer one, or let the engine make it", len(supplied), c.Algorithm, least)
	}
	return hmacMaterial(c.Algorithm, supplied), nil
}

// Publishes is true for keys that others verify with.
func (driver) Publishes(s rotation.Secret) bool {
	c, err := ReadConfig(s.Config)
	return err == nil && !Symmetric(c.Algorithm)
}

// Fits compares the algorithm and the size.
func (t driver) Fits(s rotation.Secret, v rotation.Material) bool {
	c, err := ReadConfig(s.Config)
	if err != nil || !t.Publishes(s) || v["algorithm"] != c.Algorithm {
		return false
	}
	public, err := parsePublic(v["public_key"])
	return err == nil && checkKey(public, c.Algorithm, c.KeyBits) == nil
}

// Test signs and verifies a token, and checks that tokens are refused that the
// key has not signed.
func (driver) Test(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	if _, err := proveKey(s, v); err != nil {
		return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	return ctx.Err()
}

// Fields implements secret.Type. A private key is there only if the configuration says
// that it may leave the engine.
func (driver) Fields(s rotation.Secret, v rotation.Material) (map[string]string, error) {
	if Symmetric(v["algorithm"]) {
		if _, err := v.Content("secret"); err != nil {
			return nil, err
		}
		return map[string]string{"algorithm": v["algorithm"], "kid": v["kid"], "secret": v["secret"]}, nil
	}
	c, err := ReadConfig(s.Config)
	if err != nil {
		return nil, err
	}
	return keyFields(v, c.Exportable)
}

// keyFields is what applications read of an asymmetric key: each part as PEM and
// as JWK.
func keyFields(v rotation.Material, exportable bool) (map[string]string, error) {
	key := &signingKey{algorithm: v["algorithm"], kid: v["kid"]}
	public, err := parsePublic(v["public_key"])
	if err != nil {
		return nil, err
	}
	fields := map[string]string{"algorithm": key.algorithm, "kid": key.kid, "public_key": v["public_key"]}
	parts := map[string]any{"public_jwk": public}
	if exportable {
		if parts["private_jwk"], err = parsePrivate(v["private_key"]); err != nil {
			return nil, err
		}
		fields["private_key"] = v["private_key"]
	}
	for name, part := range parts {
		encoded, err := key.jwk(part).MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("encode %s", name)
		}
		fields[name] = string(encoded)
	}
	return fields, nil
}

// PreviousFields lets applications verify the tokens that were signed before the
// cut-over, perhaps with another algorithm.
func (driver) PreviousFields(previous rotation.Material) map[string]string {
	fields := map[string]string{
		"previous_algorithm": previous["algorithm"], "previous_kid": previous["kid"],
		"previous_secret": previous["secret"], "previous_public_key": previous["public_key"],
	}
	maps.DeleteFunc(fields, func(_, value string) bool { return value == "" })
	return fields
}

// Verify implements secret.Type.
func (driver) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	if s.Current == nil {
		return nil, secret.ErrNoCurrent
	}
	proofs, err := proveKey(s, s.Current.Material)
	if err == nil && s.Next != nil {
		if _, err = proveKey(s, s.Next.Material); err == nil {
			proofs = append(proofs, fmt.Sprintf("the next key, kid %s, signs and verifies", s.Next.Material["kid"]))
		}
	}
	return proofs, errors.Join(err, ctx.Err())
}
