package apikey

import (
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
)

// TestConformance runs the suite with keys that are kept, and with their hashes.
func TestConformance(t *testing.T) {
	of := func(config Config) func(t *testing.T) *conformance.Subject {
		return func(t *testing.T) *conformance.Subject {
			return conformance.New(t, driver{}, "api_key", config, "sk-0123456789abcdef")
		}
	}
	conformance.Run(t, map[string]func(t *testing.T) *conformance.Subject{
		"api_key":        of(Config{Prefix: "orders", Length: 30}),
		"api_key hashed": of(Config{HashOnly: true}),
	})
}
