package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// comment is what PostgreSQL keeps about a user.
func (b *bench) comment(user string) (text string) {
	b.t.Helper()
	err := connect(b.t, b.pg).QueryRow(b.t.Context(), "SELECT coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname = $1", user).Scan(&text)
	must(b.t, err)
	return text
}

// mounts are two that both may manage the users of one server.
func mounts(t *testing.T, pg *testenv.Postgres) (here, there *bench) {
	here, there = newBench(t, pg), newBench(t, pg)
	here.owner.Mount, here.owner.Path = "mount-here", "here/"
	there.owner.Mount, there.owner.Path = "mount-there", "there/"
	return here, there
}

// TestOwner has two mounts want the same users, with the rights that the README grants,
// on each major version.
func TestOwner(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			here, there := mounts(t, ofMajor(t, major))
			users := here.pair(unique("a"), unique(`O'Brien \ "é`))
			person := `Orders; ask O'Hara \ first` + "\n\nthanks"
			for _, user := range users {
				there.permit(user)
				here.sql("COMMENT ON ROLE %s IS %s", quoteName(user), quoteLiteral(person))
			}
			config := DatabaseConfig{RotationStrategy: AlternatingUsers, Usernames: users}
			ours, mine := here.database(config)
			theirs, yours := there.database(config)
			v, err := ours.Create(t.Context(), mine)
			must(t, err)

			if former, err := here.postgres.Claim(t.Context(), "main", users, false); err != nil || len(former) > 0 {
				t.Fatalf("claim: %v, %v", former, err)
			}
			for range 2 { // the mark is there once
				must(t, ours.Set(t.Context(), mine, v, unfenced))
			}
			for _, user := range users {
				if got := here.comment(user); !strings.HasPrefix(got, person+"\n"+ownerMark) || strings.Count(got, ownerMark) != 1 || strings.Contains(got, v["password"]) {
					t.Errorf("the comment on %s is %q", user, got)
				}
			}
			mine.Current = here.value(v)

			there.refusedFor(here, theirs, yours)
			if err := ours.Test(t.Context(), mine, v); err != nil {
				t.Errorf("after another mount has tried: %v", err)
			}

			former, err := there.postgres.Claim(t.Context(), "main", users, true)
			if err != nil || len(former) != 2 || former[0] != here.owner {
				t.Fatalf("take over: %v, %v", former, err)
			}
			here.refusedFor(there, ours, mine)
			must(t, ours.Test(t.Context(), mine, v))

			must(t, here.postgres.Release(t.Context(), "main", users, here.owner))
			here.refusedFor(there, ours, mine)
			must(t, there.postgres.Release(t.Context(), "main", users, there.owner))
			for _, user := range users {
				if got := here.comment(user); got != person {
					t.Errorf("what a person wrote on %s is now %q", user, got)
				}
			}
			// A secret that is older than the mark gets it when its password is set.
			must(t, ours.Set(t.Context(), mine, v, unfenced))
			if got := here.comment(v["username"]); !strings.Contains(got, here.owner.Mount) {
				t.Errorf("the comment is %q", got)
			}
		})
	}
}

// refusedFor tries everything that changes or looks at a user of another mount.
func (b *bench) refusedFor(other *bench, d *database, s rotation.Secret) {
	b.t.Helper()
	v, err := d.Create(b.t.Context(), s)
	must(b.t, err)
	s.Pending = b.value(v)
	_, looked := d.Preflight(b.t.Context(), s, v)
	_, claim := b.postgres.Claim(b.t.Context(), "main", []string{v["username"]}, false)
	for what, err := range map[string]error{
		"preflight": looked, "claim": claim,
		"set": d.Set(b.t.Context(), s, v, unfenced), "clear": d.clear(b.t.Context(), must2(databaseConfig(s.Config)), v["username"], unfenced),
	} {
		if err == nil || !strings.Contains(err.Error(), `"`+other.owner.Path+`"`) || !strings.Contains(err.Error(), "take_over") {
			b.t.Errorf("%s: got %v, want the name of the owner and the way out", what, err)
		}
		if what != "preflight" && (!errors.Is(err, ErrOwned) || !errors.Is(err, rotation.ErrUnchanged)) {
			b.t.Errorf("%s: %v does not say that nothing was changed", what, err)
		}
	}
	found := d.Inspect(b.t.Context(), s, subjectOfOwner)
	if i := slices.IndexFunc(found, func(f preflight.Finding) bool {
		return f.Check == "database.managed_by" && f.Severity == preflight.Error
	}); i < 0 || !strings.Contains(found[i].Detail, other.owner.Path) {
		b.t.Errorf("inspect found %+v", found.Open())
	}
}

var subjectOfOwner = preflight.Subject{Mount: "smvm/", Role: "r"}

func must2(c databaseSettings, err error) databaseSettings {
	if err != nil {
		panic(err)
	}
	return c
}

// TestOwnersRace has mounts claim a user at the same time: one gets it, and the others
// are told who.
func TestOwnersRace(t *testing.T) {
	first := newBench(t, shared)
	user := first.user(unique("app"))
	const many = 6
	errs, benches := make([]error, many), make([]*bench, many)
	for i := range benches {
		benches[i] = newBench(t, shared)
		benches[i].permit(user)
		benches[i].owner.Mount = fmt.Sprint("mount-", i)
	}
	var claiming sync.WaitGroup
	for i, b := range benches {
		claiming.Go(func() {
			for { // a claim that meets another one may be asked for again
				_, errs[i] = b.postgres.Claim(context.Background(), "main", []string{user}, false)
				if codeOf(errs[i]) != codeInternalError {
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
		case !errors.Is(err, ErrOwned):
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
	b := newBench(t, shared)
	setter, user := unique("setter"), unique("app")
	b.sql(`CREATE ROLE %[2]s LOGIN; CREATE FUNCTION %[1]s(name text, password text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS
		$$ BEGIN EXECUTE format('ALTER ROLE %%I PASSWORD %%L', name, password); END $$`, setter, user)
	d, s := b.database(DatabaseConfig{Usernames: []string{user}, RotationStatements: []string{"SELECT public." + setter + "('{{username}}', {{password}})"}})
	v, err := d.Create(t.Context(), s)
	must(t, err)
	_, err = d.Preflight(t.Context(), s, v)
	must(t, err)
	_, err = b.postgres.Claim(t.Context(), "main", []string{user}, false)
	must(t, err)
	must(t, d.Set(t.Context(), s, v, unfenced))
	s.Current = b.value(v)
	found := d.Inspect(t.Context(), s, subjectOfOwner).Open()
	i := slices.IndexFunc(found, func(f preflight.Finding) bool { return f.Check == "database.managed_by" })
	if i < 0 || found[i].Severity != preflight.Warning || !strings.Contains(found[i].Fix.String(), "COMMENT ON ROLE") {
		t.Fatalf("found %+v", found)
	}
	b.sql("%s", found[i].Fix.String())
	if found := d.Inspect(t.Context(), s, subjectOfOwner).Open(); slices.ContainsFunc(found, func(f preflight.Finding) bool { return f.Check == "database.managed_by" }) {
		t.Errorf("after the fix it still finds %+v", found)
	}
	b.owner.Mount = "another"
	if err := d.Set(t.Context(), s, v, unfenced); !errors.Is(err, ErrOwned) {
		t.Errorf("got %v, want that the mark is read", err)
	}
}

// TestOwnerMark reads what anybody may have written.
func TestOwnerMark(t *testing.T) {
	us := Owner{Mount: "m", Path: "p/", Role: "r", Secret: "s"}
	line, err := note{}.naming(us)
	must(t, err)
	for comment, want := range map[string]struct {
		owner Owner
		kept  string
	}{
		"":                     {Owner{}, ""},
		line:                   {us, ""},
		"a\n" + line:           {us, "a"},
		"a\n" + line + "\nb\n": {us, "a\nb\n"},
		ownerMark + "nobody":   {Owner{}, ownerMark + "nobody"},
		ownerMark + "{}":       {Owner{}, ownerMark + "{}"},
		"see " + line:          {Owner{}, "see " + line},
		ownerMark + `{"mount":"x"}` + "\n" + line: {us, ""},
	} {
		if owner, kept := splitComment(comment); owner != want.owner || kept != want.kept {
			t.Errorf("%q is of %v and keeps %q", comment, owner, kept)
		}
	}
	for _, n := range []note{{comment: "x", writable: false}, {comment: line, writable: true}} {
		if statement, err := n.name(us); statement != "" || err != nil {
			t.Errorf("%v is written by %q, %v", n, statement, err)
		}
	}
}
