package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestEveryFormIsRedacted has a server quote a password as it is, as it is
// prepared, and as it stands in a literal.
func TestEveryFormIsRedacted(t *testing.T) {
	const password = `ﬁne \ "it's"`
	for _, form := range []string{password, prepare(password), literalBody(password)} {
		err := reduce(&pgconn.PgError{Message: "syntax error near " + form + " here", Code: "42601"}, password)
		if strings.Contains(err.Error(), form) || !strings.Contains(err.Error(), rotation.Redacted) {
			t.Errorf("%s is shown: %v", form, err)
		}
	}
}
