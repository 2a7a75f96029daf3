package secret

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
)

// checkPair checks what two alternating users must have in common: an application
// must be able to do as one what it did as the other. What is in use works, so where
// it has to be one or the other, the idle user is made like it.
func (r *report) checkPair(admin administrator, used, idle role) {
	r.checkMembership(admin, used, idle)
	r.checkMembership(admin, idle, used)
	r.checkOptions(admin, used, idle)
	owner := commonOwner(used, idle)
	r.Expect(owner != "", "database.owner", preflight.Warning, makeOwner(used, idle),
		"%q and %q are members of no common role, so that what one creates the other does not own", used.name, idle.name)
	for _, user := range []role{used, idle} {
		r.checkOwned(admin, user, cmp.Or(owner, ownerName(used)))
	}
	apart := difference(used.attributes, idle.attributes)
	r.Expect(len(apart) == 0, "database.attributes", preflight.Warning, copyAttributes(used, idle, apart),
		"%q and %q differ in these attributes: %s", used.name, idle.name, strings.Join(apart, ", "))
	apart = difference(used.settings, idle.settings)
	r.Expect(len(apart) == 0, "database.settings", preflight.Warning, copySettings(used, idle, admin.database),
		"%q and %q differ in these settings (ALTER ROLE … SET): %s", used.name, idle.name, strings.Join(settingNames(apart), ", "))
	r.Expect(used.limit == idle.limit || used.limit == 0 || idle.limit == 0, "database.connection_limits", preflight.Warning,
		fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d;", quoteName(idle.name), used.limit),
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
	for _, group := range a.memberOf {
		if group != b.name {
			r.Expect(slices.Contains(b.memberOf, group), "database.memberships", preflight.Error, admin.grants(group, quoteName(b.name)),
				"%q is a member of %q and %q is not", a.name, group, b.name)
		}
	}
}

// checkOptions wants memberships to be of the same kind; there are several from
// PostgreSQL 16 on.
func (r *report) checkOptions(admin administrator, a, b role) {
	for i, group := range a.memberOf {
		if slices.Contains(b.memberOf, group) {
			r.Expect(slices.Contains(b.memberships, a.memberships[i]), "database.membership_options", preflight.Warning, admin.grants(group, quoteNames(a.name, b.name)),
				"%q and %q are members of %q with different options", a.name, b.name, group)
		}
	}
}

// grants is the statement that makes users a full member of a group.
func (a administrator) grants(group, users string) string {
	options := ""
	if a.version >= 160000 {
		options = " WITH INHERIT TRUE, SET TRUE"
	}
	return fmt.Sprintf("GRANT %s TO %s%s;", quoteName(group), users, options)
}

// checkOwned wants nothing to be owned by a user itself.
func (r *report) checkOwned(admin administrator, user role, owner string) {
	if len(user.owned) == 0 {
		r.Pass("database.owned_objects")
	}
	for i, database := range user.owned {
		fix := fmt.Sprintf("REASSIGN OWNED BY %s TO %s;", quoteName(user.name), quoteName(owner))
		if database != admin.database {
			fix = `\connect ` + quoteName(database) + "\n" + fix
		}
		r.Expect(false, "database.owned_objects", preflight.Warning, fix,
			"%q owns %d objects itself in database %q, which the other user does not own", user.name, user.ownedObjects[i], database)
	}
}

// mostGrants is how many statements one finding has at most.
const mostGrants = 50

// checkGrants compares what both users were granted by name.
func (r *report) checkGrants(ctx context.Context, conn *pgx.Conn, used, idle role) error {
	toIdle, err := grantsMissing(ctx, conn, used, idle)
	if err != nil {
		return err
	}
	toUsed, err := grantsMissing(ctx, conn, idle, used)
	if err != nil {
		return err
	}
	statements, told := slices.Concat(toIdle, toUsed), ""
	if len(statements) > mostGrants {
		statements, told = statements[:mostGrants], fmt.Sprintf(" (the first %d are told)", mostGrants)
	}
	r.Expect(len(statements) == 0, "database.grants", preflight.Warning, strings.Join(statements, "\n"),
		"%q was granted %d privileges that %q was not, and %d the other way round: grant them to a role that both are members of, or to both%s",
		used.name, len(toIdle), idle.name, len(toUsed), told)
	databases, err := grantsElsewhere(ctx, conn, used, idle)
	for _, database := range databases {
		r.Expect(false, "database.grants_elsewhere", preflight.Unknown, `\connect `+quoteName(database)+"\n\\dp",
			"%q and %q have been granted different things in database %q, which can't be seen from here", used.name, idle.name, database)
	}
	return err
}

// commonOwner is a role that both users are members of, "" if there is none.
func commonOwner(a, b role) string {
	for _, group := range a.memberOf {
		if group != b.name && slices.Contains(b.memberOf, group) {
			return group
		}
	}
	return ""
}

// ownerName is what a role is called that is to own what an application has.
func ownerName(user role) string { return user.name + "_owner" }

func makeOwner(a, b role) string {
	owner := quoteName(ownerName(a))
	return fmt.Sprintf("CREATE ROLE %s NOLOGIN;\nGRANT %s TO %s;", owner, owner, quoteNames(a.name, b.name))
}

func quoteNames(a, b string) string { return quoteName(a) + ", " + quoteName(b) }

// copyAttributes gives to the attributes that differ.
func copyAttributes(from, to role, apart []string) string {
	var changes []string
	for _, attribute := range apart {
		if !slices.Contains(from.attributes, attribute) {
			attribute = "NO" + attribute
		}
		changes = append(changes, attribute)
	}
	return fmt.Sprintf("ALTER ROLE %s %s;", quoteName(to.name), strings.Join(changes, " "))
}

// copySettings gives to the settings of from without saying what they are, because
// those that applications define themselves may be secret. The names in those that
// are lists are quoted already where they are stored.
func copySettings(from, to role, database string) string {
	user, place := quoteName(to.name), quoteName(database)
	body := fmt.Sprintf(`DECLARE s text; BEGIN ALTER ROLE %s RESET ALL; ALTER ROLE %s IN DATABASE %s RESET ALL;
FOR s IN SELECT format('ALTER ROLE %%I %%s SET %%s TO ', %s, CASE setdatabase WHEN 0 THEN '' ELSE format('IN DATABASE %%I', current_database()) END, split_part(c, '=', 1))
 || CASE WHEN split_part(c, '=', 1) IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries') THEN substr(c, strpos(c, '=') + 1) ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END
 FROM pg_catalog.pg_db_role_setting, unnest(setconfig) c WHERE setrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
 AND setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
LOOP EXECUTE s; END LOOP; END`, user, user, place, quoteLiteral(to.name), quoteLiteral(from.name))
	if strings.Contains(body, "$smvm$") {
		return "DO " + quoteLiteral(body) + ";"
	}
	return "DO $smvm$ " + body + " $smvm$;"
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
