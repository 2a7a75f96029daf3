package secret

import (
	"cmp"
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// subject is one type of secret in one configuration.
type subject struct {
	Values
	*bench
	secret rotation.Secret
	// external says that there is a target, which must refuse what is not set.
	external bool
	// supplied is what an operator may import.
	supplied string
	// costly says that its values take long to make, as RSA keys do.
	costly bool
	// stock are costly values that it made for earlier tests.
	stock *[]rotation.Material
	made  []rotation.Material
}

// subjects lists everything that must conform. A new type is one more line.
var subjects = map[string]func(t *testing.T) *subject{
	"jwt default":      localSubject("jwt", JWTConfig{}, strings.Repeat("k", 32)),
	"jwt HS256":        jwtSubject(JWTConfig{Algorithm: "HS256"}),
	"jwt HS384":        jwtSubject(JWTConfig{Algorithm: "HS384"}),
	"jwt HS512":        jwtSubject(JWTConfig{Algorithm: "HS512"}),
	"jwt RS256":        jwtSubject(JWTConfig{Algorithm: "RS256"}),
	"jwt RS384":        jwtSubject(JWTConfig{Algorithm: "RS384", Exportable: true}),
	"jwt RS512":        jwtSubject(JWTConfig{Algorithm: "RS512", KeyBits: 3072}),
	"jwt PS256":        jwtSubject(JWTConfig{Algorithm: "PS256"}),
	"jwt PS384":        jwtSubject(JWTConfig{Algorithm: "PS384"}),
	"jwt PS512":        jwtSubject(JWTConfig{Algorithm: "PS512"}),
	"jwt ES256":        jwtSubject(JWTConfig{Algorithm: "ES256", Issuer: "orders", Audience: []string{"shop"}}),
	"jwt ES384":        jwtSubject(JWTConfig{Algorithm: "ES384"}),
	"jwt ES512":        jwtSubject(JWTConfig{Algorithm: "ES512", Exportable: true}),
	"jwt EdDSA":        jwtSubject(JWTConfig{Algorithm: "EdDSA"}),
	"api_key":          localSubject("api_key", APIKeyConfig{Prefix: "orders", Length: 30}, "sk-0123456789abcdef"),
	"api_key hashed":   localSubject("api_key", APIKeyConfig{HashOnly: true}, "sk-0123456789abcdef"),
	"random":           localSubject("random", RandomConfig{Length: 20, Charset: "abcdefghij-é"}, "first\nsecond"),
	"random by policy": localSubject("random", RandomConfig{PasswordPolicy: "policy-made"}, "x"),
	"single user": databaseSubject(func(b *bench) DatabaseConfig {
		return DatabaseConfig{Usernames: []string{b.User(pgtest.Unique("app"))}}
	}),
	"alternating users": databaseSubject(func(b *bench) DatabaseConfig {
		return DatabaseConfig{
			Usernames:              b.Pair(pgtest.Unique("a"), pgtest.Unique("b")),
			VerificationStatements: []string{"SELECT 1", "CREATE TEMPORARY TABLE tried (n int)"},
		}
	}),
	"hostile name and policy": databaseSubject(func(b *bench) DatabaseConfig {
		return DatabaseConfig{Usernames: b.Pair(pgtest.Unique(`Robert"; DROP ROLE x;--`), pgtest.Unique(`O'Brien \ ${x} {{password}}`)), PasswordPolicy: `it's \ "made" `}
	}),
	"rotation statements": databaseSubject(func(b *bench) DatabaseConfig {
		setter := pgtest.Unique("setter")
		b.SQL(`CREATE FUNCTION %s(name text, password text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS
			$$ BEGIN EXECUTE format('ALTER ROLE %%I PASSWORD %%L', name, password); END $$`, setter)
		users := []string{pgtest.Unique("a"), pgtest.Unique(`b"\';`)}
		owner := pgtest.Unique("owner")
		b.SQL("CREATE ROLE %s; CREATE ROLE %s LOGIN IN ROLE %s; CREATE ROLE %s LOGIN IN ROLE %s",
			owner, postgres.QuoteName(users[0]), owner, postgres.QuoteName(users[1]), owner)
		return DatabaseConfig{Usernames: users, RotationStatements: []string{"SELECT public." + setter + "('{{username}}', {{password}})"}}
	}),
	"password authentication": databaseSubject(func(b *bench) DatabaseConfig {
		b.Connection.Settings.PasswordAuthentication = postgres.AuthenticatePassword
		return DatabaseConfig{Usernames: b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))}
	}),
	"connection": connectionSubject,
}

func localSubject(name string, config any, supplied string) func(t *testing.T) *subject {
	return func(t *testing.T) *subject {
		b := &bench{&pgtest.Bench{T: t, Now: time.Now()}}
		return &subject{Values: Types(nil, policies{})[name], bench: b, secret: secretOf(t, name, config), supplied: supplied}
	}
}

// jwtSubject imports a key that was made elsewhere for the algorithm.
func jwtSubject(config JWTConfig) func(t *testing.T) *subject {
	return func(t *testing.T) *subject {
		supplied := strings.Repeat("k", 64)
		if !Symmetric(config.Algorithm) {
			supplied = foreignPEM(t, config.Algorithm, cmp.Or(config.KeyBits, defaultKeyBits))
		}
		s := localSubject("jwt", config, supplied)(t)
		s.costly = isRSA(config.Algorithm)
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

func databaseSubject(configure func(b *bench) DatabaseConfig) func(t *testing.T) *subject {
	return func(t *testing.T) *subject {
		b := newBench(t, pgtest.Shared)
		d, s := b.database(configure(b))
		return &subject{Values: d, bench: b, secret: s, external: true, supplied: "their password"}
	}
}

func connectionSubject(t *testing.T) *subject {
	b := newBench(t, pgtest.Shared)
	s := secretOf(t, "connection", b.Config())
	m, err := ImportAdmin(b.Admin.Username, b.Admin.Password)
	expect.OK(t, err)
	s.Current = b.Value(m)
	return &subject{Values: NewAdmin(b.Postgres), bench: b, secret: s, external: true, supplied: "their password"}
}
