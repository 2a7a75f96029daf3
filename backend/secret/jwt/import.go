package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// maxImport is the length in bytes above which no key is taken: a key of 4096
// bits has a fifth of it.
const maxImport = 16 << 10

// importKey takes a private key as PEM (PKCS #1, PKCS #8, SEC 1) or as JWK. A JWK
// keeps its kid, because tokens that are in use name it.
func importKey(algorithm string, bits int, text string) (rotation.Material, error) {
	if err := input.CheckText("private_key", text, maxImport); err != nil {
		return nil, err
	}
	read := readPEM
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		read = readJWK
	}
	key, kid, err := read(algorithm, text)
	if err != nil {
		return nil, err
	}
	signer, err := sound(key)
	if err != nil {
		return nil, err
	}
	if err := checkKey(signer.Public(), algorithm, bits); err != nil {
		return nil, rotation.Invalid("private_key", "%v: set algorithm and key_bits to what the key is for, or import another key", err)
	}
	return keyMaterial(algorithm, kid, signer)
}

// readPEM reads the one private key of a PEM text.
func readPEM(_, text string) (key any, kid string, err error) {
	block, rest := pem.Decode([]byte(text))
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam writes them before the key
		block, rest = pem.Decode(rest)
	}
	switch {
	case block == nil:
		return nil, "", rotation.Invalid("private_key", "is neither PEM nor a JWK: give a private key as PKCS #8, PKCS #1 or SEC 1 in PEM, or as a JSON object by RFC 7517")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, "", rotation.Invalid("private_key", "has more after the first key: give one private key alone")
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, "", rotation.Invalid("private_key", "is encrypted: decrypt it first, by openssl pkey -in FILE")
	}
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, "", rotation.Invalid("private_key", "is PEM of something else than a private key: give PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY")
	}
	if err != nil {
		return nil, "", rotation.Invalid("private_key", "is damaged, or a key of an unknown kind")
	}
	return key, "", nil
}

// readJWK reads a private key as RFC 7517 and RFC 8037 describe it.
func readJWK(algorithm, text string) (key any, kid string, err error) {
	var jwk jose.JSONWebKey
	if err := json.Unmarshal([]byte(text), &jwk); err != nil {
		return nil, "", rotation.Invalid("private_key", "is not the JWK of a signing key: give one JSON object by RFC 7517, with kty RSA, EC or OKP")
	}
	switch {
	case jwk.Algorithm != "" && AlgorithmName(jwk.Algorithm) != algorithm:
		return nil, "", rotation.Invalid("private_key", "names another alg than the algorithm %s: set algorithm to the one of the key", algorithm)
	case jwk.Use != "" && jwk.Use != "sig":
		return nil, "", rotation.Invalid("private_key", `is not for signing: its use must be "sig", or be left out`)
	case jwk.KeyID != "" && input.CheckPrintable("private_key", jwk.KeyID, 256) != nil:
		return nil, "", rotation.Invalid("private_key", "has a kid that is not one line of at most 256 bytes")
	}
	return jwk.Key, jwk.KeyID, nil
}

// sound returns the private key with a public part that was computed from it:
// signing with one that does not match may disclose the private part.
func sound(key any) (crypto.Signer, error) {
	damaged := rotation.Invalid("private_key", "is damaged: its parts do not belong together")
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if len(key.Primes) != 2 {
			return nil, rotation.Invalid("private_key", "has %d primes: use a key with two", len(key.Primes))
		}
		if key.Validate() != nil {
			return nil, damaged
		}
		return key, nil
	case *ecdsa.PrivateKey:
		raw, err := key.Bytes()
		if err != nil {
			return nil, damaged
		}
		computed, err := ecdsa.ParseRawPrivateKey(key.Curve, raw)
		if err != nil || !computed.PublicKey.Equal(key.Public()) {
			return nil, damaged
		}
		return computed, nil
	case ed25519.PrivateKey:
		if len(key) != ed25519.PrivateKeySize || !ed25519.NewKeyFromSeed(key.Seed()).Equal(key) {
			return nil, damaged
		}
		return key, nil
	}
	return nil, rotation.Invalid("private_key", "is not a private key for signing tokens: give one of RSA, P-256, P-384, P-521 or Ed25519, with its private part")
}

// bitsOf is the size of an RSA key, and 0 for all others.
func bitsOf(public crypto.PublicKey) int {
	if key, ok := public.(*rsa.PublicKey); ok {
		return key.N.BitLen()
	}
	return 0
}
