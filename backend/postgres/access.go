package postgres

import (
	"slices"

	"github.com/hashicorp/go-secure-stdlib/strutil"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Access says for whom and for what a connection may be used. Its patterns are
// names in which * stands for any text, as in allowed_roles of Vault's database
// engine.
type Access struct {
	// AllowedRoles are the roles whose secrets may use the connection; nil in a
	// connection that was stored before there was a choice: see Legacy.
	AllowedRoles []string `json:"allowed_roles"`
	// AllowedUsernames are the users that secrets may manage; none means all but the
	// connection's administrator, whom no secret may manage.
	AllowedUsernames []string `json:"allowed_usernames,omitempty"`
	// AllowRotationStatements lets secrets have statements of their own, which run
	// as the administrator.
	AllowRotationStatements bool `json:"allow_rotation_statements,omitempty"`
}

// Legacy reports whether the connection was stored before it said whom it is for.
// The secrets that use it go on to, and no others may.
func (a Access) Legacy() bool { return a.AllowedRoles == nil }

// AllowsRole reports whether secrets of the role may use the connection.
func (a Access) AllowsRole(role string) bool {
	return strutil.StrListContainsGlob(a.AllowedRoles, role)
}

// AllowsUser reports whether secrets may manage the user.
func (a Access) AllowsUser(username string) bool {
	return len(a.AllowedUsernames) == 0 || strutil.StrListContainsGlob(a.AllowedUsernames, username)
}

// Equal reports whether both allow the same, in the same words.
func (a Access) Equal(other Access) bool {
	return slices.Equal(a.AllowedRoles, other.AllowedRoles) && slices.Equal(a.AllowedUsernames, other.AllowedUsernames) &&
		a.AllowRotationStatements == other.AllowRotationStatements
}

const maxPatterns = 1000

func (a Access) validate() error {
	for _, list := range []struct {
		field    string
		patterns []string
	}{{"allowed_roles", a.AllowedRoles}, {"allowed_usernames", a.AllowedUsernames}} {
		if len(list.patterns) > maxPatterns {
			return rotation.Invalid(list.field, "has %d patterns; the limit is %d", len(list.patterns), maxPatterns)
		}
		for _, pattern := range list.patterns {
			if err := input.CheckPrintable(list.field, pattern, 512); err != nil {
				return err
			}
		}
	}
	return nil
}
