package secret

import (
	"context"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// BenchmarkSet gives a user another password, on a real PostgreSQL.
func BenchmarkSet(b *testing.B) {
	d, s := benchmarked(b)
	for b.Loop() {
		v, err := d.Create(context.Background(), s)
		must(b, err)
		must(b, d.Set(context.Background(), s, v, unfenced))
	}
}

// BenchmarkTest proves a password by a login, on a real PostgreSQL.
func BenchmarkTest(b *testing.B) {
	d, s := benchmarked(b)
	v, err := d.Create(context.Background(), s)
	must(b, err)
	must(b, d.Set(context.Background(), s, v, unfenced))
	for b.Loop() {
		must(b, d.Test(context.Background(), s, v))
	}
}

func benchmarked(b *testing.B) (*database, rotation.Secret) {
	pg, err := testenv.StartPostgres(b.Context(), testenv.PostgresOptions{})
	must(b, err)
	b.Cleanup(func() { must(b, pg.Stop()) })
	bench := newBench(b, pg)
	b.ReportAllocs()
	return bench.database(DatabaseConfig{Usernames: []string{bench.user(unique("app"))}})
}

// BenchmarkVerifier makes what PostgreSQL stores of a password.
func BenchmarkVerifier(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, err := scramVerifier("a password of some length")
		must(b, err)
	}
}

// BenchmarkProveKey proves a key by use: tokens of it are accepted, forgeries are not.
func BenchmarkProveKey(b *testing.B) {
	for _, algorithm := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			b.ReportAllocs()
			s := secretOf(b, "jwt", JWTConfig{Algorithm: algorithm})
			v, err := jwtType{}.Create(context.Background(), s)
			must(b, err)
			for b.Loop() {
				must(b, jwtType{}.Test(context.Background(), s, v))
			}
		})
	}
}
