package jwt

import (
	"cmp"
	"crypto/x509"
	"strings"
	"sync"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
)

// TestConformance runs the suite with every algorithm.
func TestConformance(t *testing.T) {
	conformance.Run(t, map[string]func(t *testing.T) *conformance.Subject{
		"default": func(t *testing.T) *conformance.Subject {
			return conformance.New(t, driver{}, "jwt", Config{}, strings.Repeat("k", 32))
		},
		"HS256": subject(Config{Algorithm: "HS256"}),
		"HS384": subject(Config{Algorithm: "HS384"}),
		"HS512": subject(Config{Algorithm: "HS512"}),
		"RS256": subject(Config{Algorithm: "RS256"}),
		"RS384": subject(Config{Algorithm: "RS384", Exportable: true}),
		"RS512": subject(Config{Algorithm: "RS512", KeyBits: 3072}),
		"PS256": subject(Config{Algorithm: "PS256"}),
		"PS384": subject(Config{Algorithm: "PS384"}),
		"PS512": subject(Config{Algorithm: "PS512"}),
		"ES256": subject(Config{Algorithm: "ES256", Issuer: "orders", Audience: []string{"shop"}}),
		"ES384": subject(Config{Algorithm: "ES384"}),
		"ES512": subject(Config{Algorithm: "ES512", Exportable: true}),
		"EdDSA": subject(Config{Algorithm: "EdDSA"}),
	})
}

// subject imports a key that was made elsewhere for the algorithm.
func subject(config Config) func(t *testing.T) *conformance.Subject {
	return func(t *testing.T) *conformance.Subject {
		supplied := strings.Repeat("k", 64)
		if !Symmetric(config.Algorithm) {
			supplied = foreignPEM(t, config.Algorithm, cmp.Or(config.KeyBits, defaultKeyBits))
		}
		s := conformance.New(t, driver{}, "jwt", config, supplied)
		s.Costly = isRSA(config.Algorithm)
		return s
	}
}

// foreignKeys are RSA keys made elsewhere, by their size: to make one takes long.
var foreignKeys = struct {
	sync.Mutex
	made map[int]string
}{made: map[int]string{}}

// foreignPEM is a private key made elsewhere.
func foreignPEM(t *testing.T, algorithm string, bits int) string {
	t.Helper()
	if !isRSA(algorithm) {
		return newPEM(t, algorithm, bits)
	}
	foreignKeys.Lock()
	defer foreignKeys.Unlock()
	if foreignKeys.made[bits] == "" {
		foreignKeys.made[bits] = newPEM(t, algorithm, bits)
	}
	return foreignKeys.made[bits]
}

func newPEM(t *testing.T, algorithm string, bits int) string {
	t.Helper()
	key, err := makeKey(algorithm, bits)
	expect.OK(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	expect.OK(t, err)
	return encodePEM("PRIVATE KEY", der)
}
