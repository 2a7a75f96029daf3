package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The algorithm and the size of keys where the configuration says nothing.
const (
	DefaultAlgorithm = "HS256"
	defaultKeyBits   = 2048
)

// hmacKeyBytes is the least length of a key in bytes: RFC 7518 section 3.2
// demands at least the size of the hash.
var hmacKeyBytes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// curves are those that RFC 7518 section 3.4 ties to the algorithms.
var curves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}

// keyBits are the sizes of RSA keys that are made and imported.
var keyBits = []int{2048, 3072, 4096}

// Algorithms lists the algorithms of RFC 7518 and RFC 8037 by which tokens are
// signed here.
var Algorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// ed25519Name is what RFC 9864 calls EdDSA with a key of Ed25519. Keys here are of
// no other curve, so both names are the same algorithm.
const ed25519Name = "Ed25519"

// AlgorithmName is the name by which an algorithm is kept and shown here.
func AlgorithmName(algorithm string) string {
	if algorithm == ed25519Name {
		return "EdDSA"
	}
	return algorithm
}

// golang-jwt looks a token's method up by the header alg.
func init() {
	jwt.RegisterSigningMethod(ed25519Name, func() jwt.SigningMethod { return jwt.SigningMethodEdDSA })
}

// Symmetric reports whether who verifies tokens of this algorithm could sign them
// as well. Such keys are never published.
func Symmetric(algorithm string) bool { return hmacKeyBytes[algorithm] > 0 }

// isRSA reports whether the keys of this algorithm are RSA keys.
func isRSA(algorithm string) bool {
	return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
}

// checkAlgorithm refuses what is not known, and a size for keys that have none.
func checkAlgorithm(algorithm string, bits int) error {
	switch {
	case !slices.Contains(Algorithms, algorithm):
		return rotation.Invalid("algorithm", "%q is not known: use %s", algorithm, strings.Join(Algorithms, ", "))
	case bits != 0 && !isRSA(algorithm):
		return rotation.Invalid("key_bits", "is for RSA keys, and %s has none: leave it out, or set it to 0", algorithm)
	case bits != 0 && !slices.Contains(keyBits, bits):
		return rotation.Invalid("key_bits", "%d is not one of 2048, 3072 and 4096", bits)
	}
	return nil
}

// makeKey makes a private key for an asymmetric algorithm.
func makeKey(algorithm string, bits int) (crypto.Signer, error) {
	switch {
	case isRSA(algorithm):
		return rsa.GenerateKey(rand.Reader, bits)
	case curves[algorithm] != nil:
		return ecdsa.GenerateKey(curves[algorithm], rand.Reader)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// checkKey says why a key is not one for the algorithm and the size.
func checkKey(public crypto.PublicKey, algorithm string, bits int) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if !isRSA(algorithm) {
			return fmt.Errorf("is an RSA key, which %s does not use", algorithm)
		}
		if got := key.N.BitLen(); got != bits {
			return fmt.Errorf("has %d bits, and key_bits is %d", got, bits)
		}
	case *ecdsa.PublicKey:
		if key.Curve != curves[algorithm] {
			return fmt.Errorf("is on curve %s, which %s does not use", key.Curve.Params().Name, algorithm)
		}
	case ed25519.PublicKey:
		if algorithm != "EdDSA" {
			return fmt.Errorf("is an Ed25519 key, which %s does not use", algorithm)
		}
	default:
		return errors.New("is of a kind that cannot sign tokens: use RSA, P-256, P-384, P-521 or Ed25519")
	}
	return nil
}

// method is how golang-jwt signs and verifies by the algorithm.
func method(algorithm string) jwt.SigningMethod { return jwt.GetSigningMethod(algorithm) }
