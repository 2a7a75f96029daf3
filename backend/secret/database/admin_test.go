package database

import (
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// TestAdminNeedsNothing changes the password of an administrator who has no
// privilege at all, and whose pool leads nowhere.
func TestAdminNeedsNothing(t *testing.T) {
	s := connectionSubject(t)
	s.Connection.Settings.Port = 1
	v := s.Make()
	s.Apply(v)
	s.Accepted(v)
}

// TestAdminWithoutATurningBack sets when neither password is accepted, which
// nothing but a person can mend.
func TestAdminWithoutATurningBack(t *testing.T) {
	s := connectionSubject(t)
	v := s.Make()
	s.Secret.Pending = s.Value(v)
	s.Password(s.Admin.Username)
	for _, err := range []error{s.Set(t.Context(), s.Secret, v, conformance.Unfenced), s.Undo(t.Context(), s.Secret, conformance.Unfenced)} {
		if !postgres.LoginRefused(err) {
			t.Errorf("got %v, want that the login is refused", err)
		}
		expect.SecretFree(t, err.Error(), v, s.Secret.Current.Material)
	}
	_, err := secret.Try(t.Context(), s.Values, s.Secret, v)
	if !postgres.LoginRefused(err) {
		t.Errorf("preflight: %v, want that the login is refused", err)
	}
}

func TestAdminFindings(t *testing.T) {
	s := connectionSubject(t)
	s.SQL("ALTER ROLE %s VALID UNTIL 'tomorrow'", s.Admin.Username)
	findings, err := secret.Try(t.Context(), s.Values, s.Secret, s.Make())
	expect.OK(t, err)
	if len(findings) != 1 || !strings.Contains(findings[0], "VALID UNTIL 'infinity'") {
		t.Errorf("found %q", findings)
	}
}

func TestImportAdminRefused(t *testing.T) {
	for _, name := range []string{"", "x\x00", strings.Repeat("x", 64)} {
		_, err := ImportAdmin(name, "password")
		expect.Invalid(t, err, "username")
	}
	_, err := ImportAdmin("admin", "line\n")
	expect.Invalid(t, err, "password")
}
