package connections

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// checkAllowed refuses a new database secret that its connection is not for. What
// the administrator of the mount would have to write is part of the error.
func (c *Set) checkAllowed(ctx context.Context, role string, config database.Config) error {
	connection, err := c.Connection(ctx, config.Connection)
	if err != nil {
		return err
	}
	a := connection.Settings.Access
	if !a.AllowsRole(role) {
		return rotation.Invalid("connection", "%q is not for role %s (allowed_roles); %s", config.Connection, role, c.allowing(config, "allowed_roles", a.AllowedRoles, role))
	}
	for _, username := range config.Usernames {
		if !a.AllowsUser(username) {
			return rotation.Invalid("usernames", "connection %q is not for user %q (allowed_usernames); %s", config.Connection, username, c.allowing(config, "allowed_usernames", a.AllowedUsernames, username))
		}
	}
	return c.CheckStatements(ctx, config)
}

// plain is a name that means itself in a list, and to a shell and a terminal.
var plain = regexp.MustCompile(`^[A-Za-z0-9_.@-]+$`)

// allowing says what adds a name to a list of a connection. Another name could make of the
// list one that allows more.
func (c *Set) allowing(config database.Config, field string, names []string, name string) string {
	switch {
	case strings.Contains(name, "*"):
		return "it can't be allowed by itself, because * means any text: use another name"
	case !plain.MatchString(name) || slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, ",") }):
		return "to allow it, an administrator of the mount adds it to " + field + " of connection " + config.Connection + ", as a list in JSON"
	}
	list := strings.Join(append(slices.Clone(names), name), ",")
	return fmt.Sprintf("to allow it, an administrator of the mount runs: vault write %sconnections/%s %s='%s'", c.ports.Mount(), config.Connection, field, strings.ReplaceAll(list, "'", `'\''`))
}

// CheckStatements refuses SQL that would run as the administrator of a connection that
// does not say so.
func (c *Set) CheckStatements(ctx context.Context, config database.Config) error {
	connection, err := c.Connection(ctx, config.Connection)
	if err != nil || len(config.RotationStatements) == 0 || connection.Settings.AllowRotationStatements {
		return err
	}
	return rotation.Invalid("rotation_statements", "would run as the administrator of connection %q, which does not allow them (allow_rotation_statements); to allow them, an administrator of the mount runs: vault write %sconnections/%s allow_rotation_statements=true", config.Connection, c.ports.Mount(), config.Connection)
}

// checkNarrowed refuses to leave a secret with a connection that is not for it. Of a
// connection that never said whom it is for, the secrets that use it go on to.
func checkNarrowed(a postgres.Access, users []dependent) error {
	if a.Legacy() {
		return nil
	}
	for _, user := range users {
		switch i := slices.IndexFunc(user.config.Usernames, func(name string) bool { return !a.AllowsUser(name) }); {
		case !a.AllowsRole(user.role.Name):
			return rotation.Invalid("allowed_roles", "leaves out %s, whose secret %s uses the connection: name it as well, or delete the secret first", user.role.Name, user)
		case i >= 0:
			return rotation.Invalid("allowed_usernames", "leaves out %q, which secret %s manages: name it as well, or delete the secret first", user.config.Usernames[i], user)
		case len(user.config.RotationStatements) > 0 && !a.AllowRotationStatements:
			return rotation.Invalid("allow_rotation_statements", "is not true, and secret %s has rotation_statements: set it to true, or take them out of the secret first", user)
		}
	}
	return nil
}

// LegacyAdvice names what to write where a role uses connections that do not say whom
// they are for; "" if there are none.
func (c *Set) LegacyAdvice(ctx context.Context, r *rotation.Role) string {
	for _, name := range r.Snapshot().Names() {
		s := r.Snapshot().Secrets[name]
		if s.Type != database.TypeName {
			continue
		}
		config, err := database.ConfigOf(s)
		if err != nil {
			continue
		}
		if connection, err := c.Connection(ctx, config.Connection); err == nil && connection.Settings.Legacy() {
			return fmt.Sprintf("connection %s is from a version that did not know allowed_roles. The secrets that use it may go on; no others may use it. An administrator of the mount should write allowed_roles=%s,… to connections/%s", config.Connection, r.Name, config.Connection)
		}
	}
	return ""
}
