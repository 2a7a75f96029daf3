package postgres

import (
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// codeProtocolViolation is the SQLSTATE of whatever PgBouncer says itself: that it does
// not know a parameter, has no server, or refuses a login.
const codeProtocolViolation = "08P01"

// poolerRefusals are what PgBouncer answers to a login because of who asks; only the
// text tells it from what says something about its server at this moment. It is in no
// other language.
var poolerRefusals = []string{
	"SASL authentication failed", "password authentication failed", "no such user", "login rejected",
	"certificate authentication failed", "PAM authentication failed", `"trust" authentication failed`,
}

// channelRefused is the routine of PostgreSQL that compares the certificates that both
// ends have seen. What it says may be in any language.
const channelRefused = "read_client_final_message"

// LoginRefused reports whether the server, or a pooler before it, turned a login down
// because of who asks, and not because of its own state or of the database. The same
// SQLSTATE in answer to a statement says nothing about logins.
func LoginRefused(err error) bool {
	var e *serverError
	return errors.As(err, &e) && e.refused
}

// PasswordRefused reports whether a login was refused for its password, so that
// another password may be accepted.
func PasswordRefused(err error) bool {
	return LoginRefused(err) && CodeOf(err) != codeInvalidAuthorization
}

// refuses reports whether err is the answer to a login as username that was turned
// down because of who asks.
func refuses(username string, err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return false
	}
	failed := failedUser(answer.Message)
	switch answer.Code {
	case codeInvalidAuthorization:
		return answer.Routine != channelRefused
	case codeInvalidPassword:
		return failed == "" || failed == username
	case codeProtocolViolation:
		return failed == username || slices.Contains(poolerRefusals, answer.Message)
	}
	return false
}

// failedUser is whom the server has refused, "" if message does not say. A pooler passes
// that on, also where it is its own user and not the one who asks.
func failedUser(message string) string {
	rest, found := strings.CutPrefix(message, `password authentication failed for user "`)
	if !found {
		return ""
	}
	return strings.TrimSuffix(rest, `"`)
}

// refusesParameters reports whether a pooler ends a session because of the parameters
// that it began with; what they say, every transaction says again.
func refusesParameters(username string, err error) bool {
	return isCode(err, codeProtocolViolation) && !refuses(username, err)
}

// channelBroken reports whether the server has seen another certificate than this side.
func channelBroken(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == codeInvalidAuthorization && answer.Routine == channelRefused
}
