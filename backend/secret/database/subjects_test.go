package database

import (
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// subject is a type whose values are at a server.
type subject struct {
	*conformance.Subject
	*bench
}

// subjects are all configurations that must conform.
var subjects = map[string]func(t *testing.T) *subject{
	"single user": databaseSubject(func(b *bench) Config {
		return Config{Usernames: []string{b.User(pgtest.Unique("app"))}}
	}),
	"alternating users": databaseSubject(func(b *bench) Config {
		return Config{
			Usernames:              b.Pair(pgtest.Unique("a"), pgtest.Unique("b")),
			VerificationStatements: []string{"SELECT 1", "CREATE TEMPORARY TABLE tried (n int)"},
		}
	}),
	"hostile name and policy": databaseSubject(func(b *bench) Config {
		return Config{Usernames: b.Pair(pgtest.Unique(`Robert"; DROP ROLE x;--`), pgtest.Unique(`O'Brien \ ${x} {{password}}`)), PasswordPolicy: `it's \ "made" `}
	}),
	"rotation statements": databaseSubject(func(b *bench) Config {
		setter := pgtest.Unique("setter")
		b.SQL(`CREATE FUNCTION %s(name text, password text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS
			$$ BEGIN EXECUTE format('ALTER ROLE %%I PASSWORD %%L', name, password); END $$`, setter)
		users := []string{pgtest.Unique("a"), pgtest.Unique(`b"\';`)}
		owner := pgtest.Unique("owner")
		b.SQL("CREATE ROLE %s; CREATE ROLE %s LOGIN IN ROLE %s; CREATE ROLE %s LOGIN IN ROLE %s",
			owner, postgres.QuoteName(users[0]), owner, postgres.QuoteName(users[1]), owner)
		return Config{Usernames: users, RotationStatements: []string{"SELECT public." + setter + "('{{username}}', {{password}})"}}
	}),
	"password authentication": databaseSubject(func(b *bench) Config {
		b.Connection.Settings.PasswordAuthentication = postgres.AuthenticatePassword
		return Config{Usernames: b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))}
	}),
	"connection": connectionSubject,
}

// TestConformance runs the suite on the logins of users and of the administrator.
func TestConformance(t *testing.T) {
	all := map[string]func(t *testing.T) *conformance.Subject{}
	for name, begin := range subjects {
		all[name] = func(t *testing.T) *conformance.Subject { return begin(t).Subject }
	}
	conformance.Run(t, all)
}

// at is a subject on a bench, with the bench's clock.
func (b *bench) at(values secret.Values, s rotation.Secret) *subject {
	of := &conformance.Subject{Values: values, T: b.T, Secret: s, Now: &b.Now, External: true, Supplied: "their password"}
	return &subject{of, b}
}

func databaseSubject(configure func(b *bench) Config) func(t *testing.T) *subject {
	return func(t *testing.T) *subject {
		b := newBench(t, pgtest.Shared)
		d, s := b.database(configure(b))
		return b.at(d, s)
	}
}

func connectionSubject(t *testing.T) *subject {
	b := newBench(t, pgtest.Shared)
	s := conformance.SecretOf(t, "connection", b.Config())
	m, err := ImportAdmin(b.Admin.Username, b.Admin.Password)
	expect.OK(t, err)
	s.Current = b.Value(m)
	return b.at(NewAdmin(b.Postgres), s)
}
