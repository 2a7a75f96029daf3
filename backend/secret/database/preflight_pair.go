package database

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
)

// checkPair checks what two alternating users must have in common: an application
// must be able to do as one what it did as the other. What is in use works, so where
// it has to be one or the other, the idle user is made like it.
func (r *report) checkPair(admin administrator, used, idle role, owner owner) {
	r.checkMembership(admin, used, idle)
	r.checkMembership(admin, idle, used)
	r.checkOptions(admin, used, idle)
	r.Expect(owner.name != "", "database.owner", preflight.Warning, makeOwner(used, idle),
		"%q and %q are members of no common role, so neither owns what the other creates", used.name, idle.name)
	for _, user := range []role{used, idle} {
		r.checkOwned(user, owner)
	}
	apart := difference(used.attributes, idle.attributes)
	r.Expect(len(apart) == 0, "database.attributes", preflight.Warning, copyAttributes(used, idle, apart),
		"%q and %q differ in these attributes: %s", used.name, idle.name, strings.Join(apart, ", "))
	apart = difference(used.settings, idle.settings)
	r.Expect(len(apart) == 0, "database.settings", preflight.Warning, preflight.SQL(copySettings(used, idle, admin.database)),
		"%q and %q differ in these settings (ALTER ROLE … SET): %s", used.name, idle.name, strings.Join(settingNames(apart), ", "))
	r.Expect(used.limit == idle.limit || used.limit == 0 || idle.limit == 0, "database.connection_limits", preflight.Warning,
		limit(idle.name, used.limit),
		"%q may have %s connections and %q %s", used.name, limitText(used.limit), idle.name, limitText(idle.limit))
}

func limitText(limit int) string {
	if limit < 0 {
		return "any number of"
	}
	return fmt.Sprint(limit)
}

// checkMembership wants b to be a member of every role that a is a member of.
func (r *report) checkMembership(admin administrator, a, b role) {
	for i, group := range a.memberOf {
		if group != b.name {
			r.Expect(slices.Contains(b.memberOf, group), "database.memberships", preflight.Error, admin.grants(group, a.memberships[i:i+1], b.name),
				"%q is a member of %q and %q is not", a.name, group, b.name)
		}
	}
}

// checkOptions wants memberships to be of the same kind; there are several from
// PostgreSQL 16 on.
func (r *report) checkOptions(admin administrator, a, b role) {
	for i, group := range a.memberOf {
		if other := slices.Index(b.memberOf, group); other >= 0 {
			both := []string{a.memberships[i], b.memberships[other]}
			r.Expect(both[0] == both[1], "database.membership_options", preflight.Warning, admin.grants(group, both, a.name, b.name),
				"%q and %q are members of %q with different options", a.name, b.name, group)
		}
	}
}

// grants is the statement that makes users members of a group as those are who have the
// memberships: in no way that none of them is.
func (a administrator) grants(group string, memberships []string, users ...string) preflight.Fix {
	var inherit, set bool
	for _, m := range memberships {
		options := strings.Fields(m)
		inherit = inherit || options[len(options)-2] == "inherit=t"
		set = set || options[len(options)-1] == "set=t"
	}
	to, members := preflight.Name(group), preflight.Names(users...)
	switch {
	case a.version < 160000:
		return preflight.SQL(preflight.Say("GRANT %s TO %s", to, members))
	case inherit && set:
		return preflight.SQL(preflight.Say("GRANT %s TO %s WITH INHERIT TRUE, SET TRUE", to, members))
	case inherit:
		return preflight.SQL(preflight.Say("GRANT %s TO %s WITH INHERIT TRUE, SET FALSE", to, members))
	case set:
		return preflight.SQL(preflight.Say("GRANT %s TO %s WITH INHERIT FALSE, SET TRUE", to, members))
	}
	return preflight.SQL(preflight.Say("GRANT %s TO %s WITH INHERIT FALSE, SET FALSE", to, members))
}

// mostGrants is how many statements one finding has at most.
const mostGrants = 50

// checkGrants compares what both users were granted by name. In another database the
// same names are those of other things, so that what is told begins with the way to
// this one.
func (r *report) checkGrants(ctx context.Context, conn *pgx.Conn, admin administrator, used, idle role) error {
	toIdle, err := grantsMissing(ctx, conn, used, idle)
	if err != nil {
		return err
	}
	toUsed, err := grantsMissing(ctx, conn, idle, used)
	if err != nil {
		return err
	}
	lacking, told := slices.Concat(toIdle, toUsed), ""
	if len(lacking) > mostGrants {
		lacking, told = lacking[:mostGrants], fmt.Sprintf(" (the fix has the first %d)", mostGrants)
	}
	fix := []preflight.Statement{preflight.Connect(admin.database)}
	for _, statement := range lacking {
		fix = append(fix, preflight.Granted(statement))
	}
	r.Expect(len(lacking) == 0, "database.grants", preflight.Warning, preflight.SQL(fix...),
		"%q was granted %d privileges that %q was not, and %d the other way round: grant them to a role that both are members of, or to both%s",
		used.name, len(toIdle), idle.name, len(toUsed), told)
	databases, err := grantsElsewhere(ctx, conn, used, idle)
	for _, database := range databases {
		r.Expect(false, "database.grants_elsewhere", preflight.Unknown, preflight.SQL(preflight.Connect(database), granted(used.name, idle.name)),
			"%q and %q have different privileges in database %q; the engine can't see from here which", used.name, idle.name, database)
	}
	return err
}

// granted shows what roles were granted by name in a database.
func granted(roles ...string) preflight.Statement {
	return preflight.Say(`SELECT r.rolname AS role, pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) AS object
  FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) d.refobjid
  WHERE d.deptype OPERATOR(pg_catalog.=) 'a' AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_authid'::pg_catalog.regclass
  AND d.dbid OPERATOR(pg_catalog.=) (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
  AND r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY[%s]) ORDER BY 1, 2`, preflight.Literals(roles...))
}

// attributes are those that two users should have in common, with how one lacks them.
var attributes = []struct {
	name     string
	has, not preflight.Piece
}{
	{"INHERIT", preflight.Words(" INHERIT"), preflight.Words(" NOINHERIT")},
	{"CREATEDB", preflight.Words(" CREATEDB"), preflight.Words(" NOCREATEDB")},
	{"CREATEROLE", preflight.Words(" CREATEROLE"), preflight.Words(" NOCREATEROLE")},
	{"REPLICATION", preflight.Words(" REPLICATION"), preflight.Words(" NOREPLICATION")},
	{"BYPASSRLS", preflight.Words(" BYPASSRLS"), preflight.Words(" NOBYPASSRLS")},
}

// copyAttributes gives to the attributes that differ.
func copyAttributes(from, to role, apart []string) preflight.Fix {
	var changes []preflight.Statement
	for _, attribute := range attributes {
		change := attribute.not
		if slices.Contains(from.attributes, attribute.name) {
			change = attribute.has
		}
		if slices.Contains(apart, attribute.name) {
			changes = append(changes, preflight.Say("ALTER ROLE %s%s", preflight.Name(to.name), change))
		}
	}
	return preflight.SQL(changes...)
}

// listed are the settings that are lists of names, each of which is quoted where they
// are stored. Text that is given for one would become one name.
var listed = []string{"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

// copySettings gives to the settings of from without saying what they are, because
// those that applications define themselves may be secret. They are read when it is
// run, and may be others by then: each is quoted again, and a list name by name. It
// is withheld if PostgreSQL has not written a list itself, which happens with SET …
// FROM CURRENT: such a one can't be told from what it means.
func copySettings(from, to role, database string) preflight.Statement {
	if slices.ContainsFunc(from.settings, unusual) {
		return preflight.Statement{}
	}
	user, place := preflight.Name(to.name), preflight.Name(database)
	return preflight.Say("DO LANGUAGE plpgsql %s", preflight.Body(preflight.Say(`DECLARE s pg_catalog.text; BEGIN SET LOCAL search_path = pg_catalog, pg_temp;
ALTER ROLE %s RESET ALL; ALTER ROLE %s IN DATABASE %s RESET ALL;
FOR s IN SELECT format('ALTER ROLE %1$I %2$s SET %3$I TO %4$s', %s, CASE WHEN setdatabase <> 0 THEN format('IN DATABASE %I', %s) END, name,
 CASE WHEN name IN (%s) THEN (SELECT coalesce(string_agg(quote_literal(coalesce(replace(m[1], '""', '"'), m[2])), ', ' ORDER BY n), quote_literal(''))
  FROM regexp_matches(value, '"((?:[^"]|"")*)"|([^", ]+)', 'g') WITH ORDINALITY AS listed (m, n)) ELSE quote_literal(value) END)
 FROM (SELECT setdatabase, split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value FROM pg_db_role_setting, unnest(setconfig) c
 WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = %s) AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = %s))) AS settings
LOOP EXECUTE s; END LOOP; END`, user, user, place, preflight.Literal(to.name), preflight.Literal(database), preflight.Literals(listed...), preflight.Literal(from.name), preflight.Literal(database))))
}

// usual is a list as PostgreSQL writes it.
var usual = func() *regexp.Regexp {
	const name = `(?:[a-z_][a-z0-9_]*|"(?:[^"]|"")*")`
	return regexp.MustCompile(`^` + name + `(?:, ` + name + `)*$`)
}()

// unusual reports whether a setting is a list that is written in another way.
func unusual(setting string) bool {
	name, value, _ := strings.Cut(setting, "=")
	return slices.Contains(listed, name) && !usual.MatchString(value)
}

// difference returns what is in one list only, each once.
func difference(a, b []string) []string {
	var apart []string
	for _, x := range slices.Concat(a, b) {
		if slices.Contains(a, x) != slices.Contains(b, x) {
			apart = append(apart, x)
		}
	}
	return apart
}

// settingNames cuts off the values, which may be secret (custom settings are).
func settingNames(settings []string) []string {
	var names []string
	for _, setting := range settings {
		name, _, _ := strings.Cut(setting, "=")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
