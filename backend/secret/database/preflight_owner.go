package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
)

// owner is a role that two users are both members of, and that may own what the
// application has. The zero owner is none.
type owner struct {
	name string
	// theirs says that nobody gains by what it is given: both users may act as it, and
	// who else may could act as one of them already.
	theirs bool
}

// inspectOwner finds the role that owns what two users make, best one that is theirs.
// Roles are made members of another without being asked, by whoever may administer
// that one: what such a role is given, that person has. So being a member of it does
// not make it theirs; nor is it a role of PostgreSQL itself, which owns nothing.
func inspectOwner(ctx context.Context, conn *pgx.Conn, a, b role) (found owner, err error) {
	err = postgres.QueryRow(ctx, conn, `
		WITH common AS (
			SELECT m.roleid AS oid, pg_catalog.count(DISTINCT m.member) FILTER (WHERE coalesce(pg_catalog.to_jsonb(m) ->> 'set_option', 'true')::bool) = 2 AS settable
			FROM pg_catalog.pg_auth_members m WHERE m.member IN ($1::oid, $2::oid) AND m.roleid NOT IN ($1::oid, $2::oid)
			GROUP BY m.roleid HAVING pg_catalog.count(DISTINCT m.member) = 2)
		SELECT g.rolname::text AS name, settable AND NOT g.rolcanlogin AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_roles o
			WHERE o.oid NOT IN (g.oid, $1::oid, $2::oid) AND NOT o.rolsuper AND o.rolname <> current_user AND pg_catalog.pg_has_role(o.oid, g.oid, 'MEMBER')
				AND NOT pg_catalog.pg_has_role(o.oid, $1::oid, 'MEMBER') AND NOT pg_catalog.pg_has_role(o.oid, $2::oid, 'MEMBER')) AS theirs
		FROM common JOIN pg_catalog.pg_roles g USING (oid) WHERE g.rolname !~ '^pg_' ORDER BY theirs DESC, name LIMIT 1`,
		[]any{a.oid, b.oid}, &found.name, &found.theirs)
	if errors.Is(err, pgx.ErrNoRows) {
		return owner{}, nil
	}
	if err != nil {
		return owner{}, fmt.Errorf("look for the owner of what %q and %q make: %w", a.name, b.name, err)
	}
	return found, nil
}

// undecided ends the detail of what is given to an owner: that it is for a person to
// decide, where the owner is not theirs.
func (o owner) undecided() string {
	switch {
	case o.theirs:
		return ""
	case o.name == "":
		return "; make both members of one role to see who should own them"
	}
	return fmt.Sprintf("; first check that %q should own them, because others than these two can act as it, or these two can't", o.name)
}

// give is a fix for an owner that is theirs, and none for others.
func (o owner) give(statements ...preflight.Statement) preflight.Fix {
	if !o.theirs {
		return preflight.Fix{}
	}
	return preflight.SQL(statements...)
}

// checkOwned wants nothing to be owned by a user itself.
func (r *report) checkOwned(user role, owner owner) {
	if len(user.owned) == 0 {
		r.Pass("database.owned_objects")
	}
	for i, database := range user.owned {
		r.Expect(false, "database.owned_objects", preflight.Warning,
			owner.give(preflight.Connect(database), preflight.Say("REASSIGN OWNED BY %s TO %s", preflight.Name(user.name), preflight.Name(owner.name))),
			"%q owns %d objects itself in database %q, which the other user does not own%s", user.name, user.ownedObjects[i], database, owner.undecided())
	}
}

// checkCreating wants two users who can create objects to do so as their owner.
func (i inspection) checkCreating(ctx context.Context, conn *pgx.Conn, users []role) error {
	if len(users) < 2 || !users[0].found || !users[1].found {
		return nil
	}
	owner, err := inspectOwner(ctx, conn, users[0], users[1])
	for _, user := range users {
		acts := strings.Contains("\n"+strings.Join(user.settings, "\n"), "\nrole=")
		i.Expect(owner.name == "" || acts || !user.creates, "database.acts_as_owner", preflight.Warning,
			owner.give(preflight.Say("ALTER ROLE %s SET role = %s", preflight.Name(user.name), preflight.Literal(owner.name))),
			"%q may create objects and would own them itself, out of reach of the other user%s", user.name, owner.undecided())
	}
	return err
}

// ownerName is what a role is called that is to own what an application has, in the
// length that a name may have.
func ownerName(user role) string {
	const suffix = "_owner"
	name := user.name
	for len(name)+len(suffix) > postgres.MaxName {
		_, last := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-last]
	}
	return name + suffix
}

// makeOwner is one statement: if there is such a role already, which may own what
// others have, nobody becomes a member of it.
func makeOwner(a, b role) preflight.Fix {
	return preflight.SQL(preflight.Say("CREATE ROLE %s NOLOGIN ROLE %s", preflight.Name(ownerName(a)), preflight.Names(a.name, b.name)))
}
