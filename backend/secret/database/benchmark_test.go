package database

import (
	"context"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
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
		expect.OK(b, d.Set(context.Background(), s, v, conformance.Unfenced))
	}
}

// BenchmarkTest proves a password by a login, on a real PostgreSQL.
func BenchmarkTest(b *testing.B) {
	d, s := benchmarked(b)
	v, err := d.Create(context.Background(), s)
	expect.OK(b, err)
	expect.OK(b, d.Set(context.Background(), s, v, conformance.Unfenced))
	for b.Loop() {
		expect.OK(b, d.Test(context.Background(), s, v))
	}
}

func benchmarked(b *testing.B) (*driver, rotation.Secret) {
	pg, err := testenv.StartPostgres(b.Context(), testenv.PostgresOptions{})
	expect.OK(b, err)
	b.Cleanup(func() { expect.OK(b, pg.Stop()) })
	bench := newBench(b, pg)
	b.ReportAllocs()
	return bench.database(Config{Usernames: []string{bench.User(pgtest.Unique("app"))}})
}
