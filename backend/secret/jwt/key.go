package jwt

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// hmacMaterial is a key whose bytes are those of the text, under a kid that tells
// nothing about them.
func hmacMaterial(algorithm, secret string) rotation.Material {
	kid := hex.EncodeToString(randomBytes(8))
	return rotation.Material{"algorithm": algorithm, "kid": kid, "secret": secret}
}

// keyMaterial is a private key, as PKCS #8, with its public key, as PKIX. Without
// a kid, it gets the one that everybody computes alike from the public key.
func keyMaterial(algorithm, kid string, key crypto.Signer) (rotation.Material, error) {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("encode private key")
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	if kid == "" {
		if kid, err = thumbprint(key.Public()); err != nil {
			return nil, err
		}
	}
	return rotation.Material{
		"algorithm": algorithm, "kid": kid,
		"private_key": encodePEM("PRIVATE KEY", private), "public_key": encodePEM("PUBLIC KEY", public),
	}, nil
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// thumbprint is the kid of RFC 7638, with SHA-256, in base64url.
func thumbprint(public crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("compute thumbprint: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// signingKey is a key of which the material has been parsed.
type signingKey struct {
	algorithm, kid string
	// private signs and public verifies; both are the bytes of an HMAC key.
	private, public any
}

// parseKey reads the material of a key. Its errors show nothing of it.
func parseKey(v rotation.Material) (*signingKey, error) {
	key := &signingKey{algorithm: v["algorithm"], kid: v["kid"]}
	if least := hmacKeyBytes[key.algorithm]; least > 0 {
		if len(v["secret"]) < least {
			return nil, errors.New("value is too short a key for its algorithm")
		}
		key.private, key.public = []byte(v["secret"]), []byte(v["secret"])
		return key, nil
	}
	private, err := parsePrivate(v["private_key"])
	if err != nil {
		return nil, err
	}
	public, err := parsePublic(v["public_key"])
	if err != nil {
		return nil, err
	}
	key.private, key.public = private, public
	return key, checkKey(public, key.algorithm, bitsOf(public))
}

// parsePrivate reads a private key as keyMaterial writes it.
func parsePrivate(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("value has no private_key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("value has a private_key that can't be read")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("value has a private_key that can't sign")
	}
	return signer, nil
}

// parsePublic reads a public key as keyMaterial writes it.
func parsePublic(text string) (crypto.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("value has no public_key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("value has a public_key that can't be read")
	}
	return key, nil
}

// jwk describes a key, private or public, as RFC 7517 has it.
func (k *signingKey) jwk(key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: k.kid, Algorithm: k.algorithm, Use: "sig"}
}

// randomBytes returns n bytes of the system's random source, which never fails.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
