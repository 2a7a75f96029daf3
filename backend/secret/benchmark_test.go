package secret

import (
	"context"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// BenchmarkSet gives a user another password, on a real PostgreSQL.
func BenchmarkSet(b *testing.B) {
	d, s := benchmarked(b)
	for b.Loop() {
		v, err := d.Create(context.Background(), s)
		expect.OK(b, err)
		expect.OK(b, d.Set(context.Background(), s, v, unfenced))
	}
}

// BenchmarkTest proves a password by a login, on a real PostgreSQL.
func BenchmarkTest(b *testing.B) {
	d, s := benchmarked(b)
	v, err := d.Create(context.Background(), s)
	expect.OK(b, err)
	expect.OK(b, d.Set(context.Background(), s, v, unfenced))
	for b.Loop() {
		expect.OK(b, d.Test(context.Background(), s, v))
	}
}

func benchmarked(b *testing.B) (*database, rotation.Secret) {
	pg, err := testenv.StartPostgres(b.Context(), testenv.PostgresOptions{})
	expect.OK(b, err)
	b.Cleanup(func() { expect.OK(b, pg.Stop()) })
	bench := newBench(b, pg)
	b.ReportAllocs()
	return bench.database(DatabaseConfig{Usernames: []string{bench.User(pgtest.Unique("app"))}})
}

// BenchmarkProveKey proves a key by use: tokens of it are accepted, forgeries are not.
func BenchmarkProveKey(b *testing.B) {
	for _, algorithm := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			b.ReportAllocs()
			s := secretOf(b, "jwt", JWTConfig{Algorithm: algorithm})
			v, err := jwtType{}.Create(context.Background(), s)
			expect.OK(b, err)
			for b.Loop() {
				expect.OK(b, jwtType{}.Test(context.Background(), s, v))
			}
		})
	}
}
