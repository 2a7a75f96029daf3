package database

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
)

// baits are ways to make both users members of a role that is not theirs, which needs
// nobody's consent, so that it is taken for the one that owns what they have. In them
// {trap} is such a role, and {mallory} who has made it.
var baits = []struct {
	name, spoil string
	// from is the first major version that can have it.
	from int
	// owned says that there is an owner of their own besides.
	owned bool
}{
	{name: "another's group", spoil: `CREATE ROLE {trap}; GRANT {trap} TO {mallory}, {a}, {b}`, owned: true},
	{name: "another's group alone", spoil: `REVOKE {owner} FROM {a}, {b}; CREATE ROLE {trap}; GRANT {trap} TO {mallory}, {a}, {b}`},
	{name: "a group of another's group", spoil: `CREATE ROLE {trap}; CREATE ROLE {x} ROLE {mallory}; GRANT {trap} TO {x}, {a}, {b}`, owned: true},
	{name: "who logs in", spoil: `CREATE ROLE {trap} LOGIN; GRANT {trap} TO {a}, {b}`, owned: true},
	{name: "who logs in, alone", spoil: `REVOKE {owner} FROM {a}, {b}; CREATE ROLE {trap} LOGIN; GRANT {trap} TO {a}, {b}`},
	{name: "who administers it", spoil: `CREATE ROLE {trap}; GRANT {trap} TO {mallory} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE; GRANT {trap} TO {a}, {b}`, from: 16, owned: true},
	{name: "a name that was there", spoil: `REVOKE {owner} FROM {a}, {b}; CREATE ROLE {a_owner} ROLE {mallory}`},
	{name: "one of PostgreSQL's", spoil: `GRANT pg_monitor TO {a}, {b}; ALTER ROLE {owner} RENAME TO "z_{x}"`, owned: true},
	{name: "one of PostgreSQL's alone", spoil: `REVOKE {owner} FROM {a}, {b}; GRANT pg_monitor TO {a}, {b}`},
	{name: "a higher one as a mark alone", spoil: `REVOKE {owner} FROM {a}, {b}; CREATE ROLE {trap}; GRANT {trap} TO {a}, {b} WITH INHERIT FALSE, SET FALSE`, from: 16},
}

// TestOwnerOfOthers pastes what is found of objects that a user owns itself: nothing is
// handed over to somebody else, and what is theirs goes to an owner of their own.
func TestOwnerOfOthers(t *testing.T) {
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.OfMajor(t, major)
			for _, bait := range baits {
				if bait.from > major {
					continue
				}
				t.Run(bait.name, func(t *testing.T) {
					a, owner, trap, mallory := pgtest.Unique("a"), pgtest.Unique("owner"), pgtest.Unique("aaa_trap"), pgtest.Unique("mallory")
					p := newPatientOf(t, pg, pgtest.Unique("db"), a, pgtest.Unique("b"), owner, fault{})
					p.SQL("CREATE ROLE %s", mallory)
					spoil := strings.NewReplacer("{trap}", trap, "{mallory}", mallory, "{a_owner}", a+"_owner").Replace(bait.spoil)
					p.psql(p.names.Replace(spoil + `; CREATE TABLE public.theirs (n int); ALTER TABLE public.theirs OWNER TO {a}; ALTER ROLE {a} RESET role; GRANT CREATE ON SCHEMA public TO {a}`))
					told := 0
					for _, f := range p.look().Open() {
						if !slices.Contains([]string{"database.owner", "database.owned_objects", "database.acts_as_owner"}, f.Check) {
							continue
						}
						p.psql(f.Fix.String(), "-v", "ON_ERROR_STOP=0")
						if f.Check != "database.owner" && f.Fix.String() != "" {
							told++
						}
					}
					if want := map[bool]int{true: 2}[bait.owned]; told != want {
						t.Errorf("whom to hand over to is told %d times, want %d: %s", told, want, p.look().Text())
					}
					if belongs := strings.TrimSpace(p.psql("SELECT relowner::regrole FROM pg_class WHERE relname = 'theirs'", "-A", "-t")); (belongs != a || bait.owned) && belongs != owner && !strings.HasPrefix(belongs, "z_") {
						t.Errorf("the table belongs to %q", belongs)
					}
					if role := p.psql(p.names.Replace("SELECT c FROM pg_db_role_setting, unnest(setconfig) c WHERE setrole = '{a}'::regrole"), "-A", "-t"); strings.Contains(role, trap) || strings.Contains(role, "pg_") {
						t.Errorf("the user acts as another's: %s", role)
					}
				})
			}
		})
	}
}

// TestPastedElsewhere pastes what is found where another database is connected to, in
// which the same names are those of other things.
func TestPastedElsewhere(t *testing.T) {
	const things = `CREATE TABLE public.salaries (n int)`
	p := newPatientOf(t, pgtest.Shared, pgtest.Unique("db"), pgtest.Unique("a"), pgtest.Unique("b"), pgtest.Unique("owner"), fault{})
	other := *p
	other.databaseName = pgtest.Unique("another")
	p.SQL("CREATE DATABASE %s", other.databaseName)
	other.psql(p.names.Replace(things + `; ALTER TABLE public.salaries OWNER TO {b}`))
	p.psql(p.names.Replace(things + `; GRANT SELECT ON public.salaries TO {a}; CREATE TABLE public.own (n int); ALTER TABLE public.own OWNER TO {a}`))
	for _, check := range inDatabase {
		for _, f := range of(p.look(), check) {
			if !strings.Contains(f.Detail, other.databaseName) {
				other.psql(f.Fix.String())
			}
		}
	}
	if left := of(p.look(), "database.grants"); len(left) > 0 {
		t.Errorf("there still is %+v", left)
	}
	if got := other.psql(p.names.Replace("SELECT relacl IS NULL AND pg_get_userbyid(relowner) = trim('{b}', '\"') FROM pg_class WHERE relname = 'salaries'"), "-A", "-t"); strings.TrimSpace(got) != "t" {
		t.Errorf("in the other database the table has other privileges, or another owner: %s", got)
	}
}
