package secret

import (
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// subject is one type of secret in one configuration.
type subject struct {
	Type
	*bench
	secret rotation.Secret
	// external says that there is a target, which must refuse what is not set.
	external bool
	// supplied is what an operator may import.
	supplied string
	made     []rotation.Material
}

// subjects lists everything that must conform. A new type is one more line.
var subjects = map[string]func(t *testing.T) *subject{
	"jwt":              localSubject("jwt", JWTConfig{Algorithm: "HS512"}, strings.Repeat("k", 64)),
	"jwt default":      localSubject("jwt", JWTConfig{}, strings.Repeat("k", 32)),
	"api_key":          localSubject("api_key", APIKeyConfig{Prefix: "orders", Length: 30}, "sk-0123456789abcdef"),
	"api_key hashed":   localSubject("api_key", APIKeyConfig{HashOnly: true}, "sk-0123456789abcdef"),
	"random":           localSubject("random", RandomConfig{Length: 20, Charset: "abcdefghij-é"}, "first\nsecond"),
	"random by policy": localSubject("random", RandomConfig{PasswordPolicy: "policy-made"}, "x"),
	"single user": databaseSubject(func(b *bench) DatabaseConfig {
		return DatabaseConfig{Usernames: []string{b.user(unique("app"))}}
	}),
	"alternating users": databaseSubject(func(b *bench) DatabaseConfig {
		return DatabaseConfig{
			Usernames:              b.pair(unique("a"), unique("b")),
			VerificationStatements: []string{"SELECT 1", "CREATE TEMPORARY TABLE tried (n int)"},
		}
	}),
	"hostile name and policy": databaseSubject(func(b *bench) DatabaseConfig {
		return DatabaseConfig{Usernames: b.pair(unique(`Robert"; DROP ROLE x;--`), unique(`O'Brien \ ${x} {{password}}`)), PasswordPolicy: `it's \ "made" `}
	}),
	"rotation statements": databaseSubject(func(b *bench) DatabaseConfig {
		setter := unique("setter")
		b.sql(`CREATE FUNCTION %s(name text, password text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
			$$ BEGIN EXECUTE format('ALTER ROLE %%I PASSWORD %%L', name, password); END $$`, setter)
		users := []string{unique("a"), unique(`b"\';`)}
		owner := unique("owner")
		b.sql("CREATE ROLE %s; CREATE ROLE %s LOGIN IN ROLE %s; CREATE ROLE %s LOGIN IN ROLE %s",
			owner, quoteName(users[0]), owner, quoteName(users[1]), owner)
		return DatabaseConfig{Usernames: users, RotationStatements: []string{"SELECT " + setter + "('{{username}}', {{password}})"}}
	}),
	"password authentication": databaseSubject(func(b *bench) DatabaseConfig {
		b.connection.Config.PasswordAuthentication = AuthenticatePassword
		return DatabaseConfig{Usernames: b.pair(unique("a"), unique("b"))}
	}),
	"connection": connectionSubject,
}

func localSubject(name string, config any, supplied string) func(t *testing.T) *subject {
	return func(t *testing.T) *subject {
		b := &bench{t: t, now: time.Now()}
		return &subject{Type: Types(nil, policies{})[name], bench: b, secret: secretOf(t, name, config), supplied: supplied}
	}
}

func databaseSubject(configure func(b *bench) DatabaseConfig) func(t *testing.T) *subject {
	return func(t *testing.T) *subject {
		b := newBench(t, shared)
		d, s := b.database(configure(b))
		return &subject{Type: d, bench: b, secret: s, external: true, supplied: "their password"}
	}
}

func connectionSubject(t *testing.T) *subject {
	b := newBench(t, shared)
	s := secretOf(t, "connection", b.config())
	m, err := ImportAdmin(b.admin.Username, b.admin.Password)
	must(t, err)
	s.Current = b.value(m)
	return &subject{Type: NewAdmin(b.postgres), bench: b, secret: s, external: true, supplied: "their password"}
}

// pair creates two users who share an owner role.
func (b *bench) pair(names ...string) []string {
	owner := unique("owner")
	b.sql("CREATE ROLE %s", owner)
	for _, name := range names {
		b.user(name)
		b.sql("GRANT %s TO %s", owner, quoteName(name))
	}
	return names
}
