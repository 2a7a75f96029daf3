package postgres

import (
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
)

// BenchmarkVerifier makes what PostgreSQL stores of a password.
func BenchmarkVerifier(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, err := scramVerifier("a password of some length")
		expect.OK(b, err)
	}
}
