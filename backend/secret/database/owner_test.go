package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// comment is what PostgreSQL keeps about a user.
func (b *bench) comment(user string) (text string) {
	b.T.Helper()
	err := pgtest.Connect(b.T, b.PG).QueryRow(b.T.Context(), "SELECT coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname = $1", user).Scan(&text)
	expect.OK(b.T, err)
	return text
}

// marked begins the line of a comment that says who manages a user.
const marked = "Managed by smvm: "

// mounts are two that both may manage the users of one server.
func mounts(t *testing.T, pg *testenv.Postgres) (here, there *bench) {
	here, there = newBench(t, pg), newBench(t, pg)
	here.Owner.Mount, here.Owner.Path = "mount-here", "here/"
	there.Owner.Mount, there.Owner.Path = "mount-there", "there/"
	return here, there
}

// TestOwner has two mounts want the same users, with the rights that docs/postgresql.md grants,
// on each major version.
func TestOwner(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			here, there := mounts(t, pgtest.OfMajor(t, major))
			users := here.Pair(pgtest.Unique("a"), pgtest.Unique(`O'Brien \ "é`))
			person := `Orders; ask O'Hara \ first` + "\n\nthanks"
			for _, user := range users {
				there.Permit(user)
				here.SQL("COMMENT ON ROLE %s IS %s", postgres.QuoteName(user), postgres.QuoteLiteral(person))
			}
			config := Config{RotationStrategy: AlternatingUsers, Usernames: users}
			ours, mine := here.database(config)
			theirs, yours := there.database(config)
			v, err := ours.Create(t.Context(), mine)
			expect.OK(t, err)

			if former, err := here.Postgres.Claim(t.Context(), "main", users, false); err != nil || len(former) > 0 {
				t.Fatalf("claim: %v, %v", former, err)
			}
			for range 2 { // the mark is there once
				expect.OK(t, ours.Set(t.Context(), mine, v, conformance.Unfenced))
			}
			for _, user := range users {
				if got := here.comment(user); !strings.HasPrefix(got, person+"\n"+marked) || strings.Count(got, marked) != 1 || strings.Contains(got, v["password"]) {
					t.Errorf("the comment on %s is %q", user, got)
				}
			}
			mine.Current = here.Value(v)

			there.refusedFor(here, theirs, yours)
			if err := ours.Test(t.Context(), mine, v); err != nil {
				t.Errorf("after another mount has tried: %v", err)
			}

			former, err := there.Postgres.Claim(t.Context(), "main", users, true)
			if err != nil || len(former) != 2 || former[0] != here.Owner {
				t.Fatalf("take over: %v, %v", former, err)
			}
			here.refusedFor(there, ours, mine)
			expect.OK(t, ours.Test(t.Context(), mine, v))

			expect.OK(t, here.Postgres.Release(t.Context(), "main", users, here.Owner))
			here.refusedFor(there, ours, mine)
			expect.OK(t, there.Postgres.Release(t.Context(), "main", users, there.Owner))
			for _, user := range users {
				if got := here.comment(user); got != person {
					t.Errorf("what a person wrote on %s is now %q", user, got)
				}
			}
			// A secret that is older than the mark gets it when its password is set.
			expect.OK(t, ours.Set(t.Context(), mine, v, conformance.Unfenced))
			if got := here.comment(v["username"]); !strings.Contains(got, here.Owner.Mount) {
				t.Errorf("the comment is %q", got)
			}
		})
	}
}

// refusedFor tries everything that changes or looks at a user of another mount.
func (b *bench) refusedFor(other *bench, d *driver, s rotation.Secret) {
	b.T.Helper()
	v, err := d.Create(b.T.Context(), s)
	expect.OK(b.T, err)
	s.Pending = b.Value(v)
	_, looked := d.Preflight(b.T.Context(), s, v)
	_, claim := b.Postgres.Claim(b.T.Context(), "main", []string{v["username"]}, false)
	for what, err := range map[string]error{
		"preflight": looked, "claim": claim,
		"set": d.Set(b.T.Context(), s, v, conformance.Unfenced), "clear": d.clear(b.T.Context(), must2(readConfig(s.Config)), v["username"], conformance.Unfenced),
	} {
		if err == nil || !strings.Contains(err.Error(), `"`+other.Owner.Path+`"`) || !strings.Contains(err.Error(), "take_over") {
			b.T.Errorf("%s: got %v, want the name of the owner and the way out", what, err)
		}
		if what != "preflight" && (!errors.Is(err, postgres.ErrOwned) || !errors.Is(err, rotation.ErrUnchanged)) {
			b.T.Errorf("%s: %v does not say that nothing was changed", what, err)
		}
	}
	found := d.Inspect(b.T.Context(), s, subjectOfOwner)
	if i := slices.IndexFunc(found, func(f preflight.Finding) bool {
		return f.Check == "database.managed_by" && f.Severity == preflight.Error
	}); i < 0 || !strings.Contains(found[i].Detail, other.Owner.Path) {
		b.T.Errorf("inspect found %+v", found.Open())
	}
}

var subjectOfOwner = preflight.Subject{Mount: "smvm/", Role: "r"}

func must2(c settings, err error) settings {
	if err != nil {
		panic(err)
	}
	return c
}

// TestOwnersRace has mounts claim a user at the same time: one gets it, and the others
// are told who.
func TestOwnersRace(t *testing.T) {
	first := newBench(t, pgtest.Shared)
	user := first.User(pgtest.Unique("app"))
	const many = 6
	errs, benches := make([]error, many), make([]*bench, many)
	for i := range benches {
		benches[i] = newBench(t, pgtest.Shared)
		benches[i].Permit(user)
		benches[i].Owner.Mount = fmt.Sprint("mount-", i)
	}
	var claiming sync.WaitGroup
	for i, b := range benches {
		claiming.Go(func() {
			for { // a claim that meets another one may be asked for again
				_, errs[i] = b.Postgres.Claim(context.Background(), "main", []string{user}, false)
				if postgres.CodeOf(errs[i]) != "XX000" {
					return
				}
			}
		})
	}
	claiming.Wait()
	won := 0
	for i, err := range errs {
		switch {
		case err == nil:
			won++
			if got := first.comment(user); !strings.Contains(got, fmt.Sprint("mount-", i)) {
				t.Errorf("mount %d was told that it has the user, and the comment says %q", i, got)
			}
		case !errors.Is(err, postgres.ErrOwned):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d mounts have the user: %v", won, errs)
	}
}

// TestOwnerWithoutRights rotates by statements of the operator, as an administrator who
// may do nothing else: it has no right to the comment, which is found, and no error.
func TestOwnerWithoutRights(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	setter, user := pgtest.Unique("setter"), pgtest.Unique("app")
	b.SQL(`CREATE ROLE %[2]s LOGIN; CREATE FUNCTION %[1]s(name text, password text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS
		$$ BEGIN EXECUTE format('ALTER ROLE %%I PASSWORD %%L', name, password); END $$`, setter, user)
	d, s := b.database(Config{Usernames: []string{user}, RotationStatements: []string{"SELECT public." + setter + "('{{username}}', {{password}})"}})
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	_, err = d.Preflight(t.Context(), s, v)
	expect.OK(t, err)
	_, err = b.Postgres.Claim(t.Context(), "main", []string{user}, false)
	expect.OK(t, err)
	expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
	s.Current = b.Value(v)
	found := d.Inspect(t.Context(), s, subjectOfOwner).Open()
	i := slices.IndexFunc(found, func(f preflight.Finding) bool { return f.Check == "database.managed_by" })
	if i < 0 || found[i].Severity != preflight.Warning || !strings.Contains(found[i].Fix.String(), "COMMENT ON ROLE") {
		t.Fatalf("found %+v", found)
	}
	b.SQL("%s", found[i].Fix.String())
	if found := d.Inspect(t.Context(), s, subjectOfOwner).Open(); slices.ContainsFunc(found, func(f preflight.Finding) bool { return f.Check == "database.managed_by" }) {
		t.Errorf("after the fix it still finds %+v", found)
	}
	b.Owner.Mount = "another"
	if err := d.Set(t.Context(), s, v, conformance.Unfenced); !errors.Is(err, postgres.ErrOwned) {
		t.Errorf("got %v, want that the mark is read", err)
	}
}
