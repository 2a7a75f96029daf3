package postgres

import (
	"errors"
	"fmt"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
)

// WantsClearText adds the way out to a password that was refused, at once or when it
// was to be committed, by a server that may want to see it.
func (s Server) WantsClearText(err error) error {
	var commit *commitError
	code := CodeOf(err)
	checked := code == codeInvalidAuthorization || code == codeInvalidPassword || code == codeInvalidParameter || code == codeRaised
	if s.Config.PasswordAuthentication == AuthenticatePassword || LoginRefused(err) || !errors.As(err, &commit) && !checked {
		return err
	}
	return fmt.Errorf("%w: if this server checks passwords, as some managed ones do, it needs them in clear text: set password_authentication=password on the connection", err)
}

// The SQLSTATEs with which hooks refuse a password that they can't check, beside those
// of a refused login.
const (
	codeInvalidParameter = "22023"
	codeRaised           = "P0001"
)

// SetPasswordError wraps err, if there is one, with whose password was to be set.
func SetPasswordError(l Login, err error) error {
	switch {
	case err == nil:
		return nil
	case CodeOf(err) == codeUndefinedObject:
		return fmt.Errorf("set password of %q: %w: create the user%s", l.Username, err, CreateUserFix(l.Username).Clause())
	}
	return fmt.Errorf("set password of %q: %w", l.Username, err)
}

// AlterPassword is the statement that sets a password, or the verifier of one.
func AlterPassword(username, password string) string {
	return "ALTER ROLE " + QuoteName(username) + " WITH PASSWORD " + QuoteLiteral(password)
}

// RemovePassword is the statement that leaves a user without any.
func RemovePassword(username string) string {
	return "ALTER ROLE " + QuoteName(username) + " WITH PASSWORD NULL"
}

// CreateUserFix makes a user who has no password yet.
func CreateUserFix(username string) preflight.Fix {
	return preflight.SQL(preflight.Say("CREATE ROLE %s LOGIN", preflight.Name(username)))
}
