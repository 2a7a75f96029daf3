package jwt

import (
	"context"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
)

// BenchmarkProveKey proves a key by use: tokens of it are accepted, forgeries are not.
func BenchmarkProveKey(b *testing.B) {
	for _, algorithm := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			b.ReportAllocs()
			s := conformance.SecretOf(b, "jwt", Config{Algorithm: algorithm})
			v, err := driver{}.Create(context.Background(), s)
			expect.OK(b, err)
			for b.Loop() {
				expect.OK(b, driver{}.Test(context.Background(), s, v))
			}
		})
	}
}
