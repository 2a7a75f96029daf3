package secret

import (
	"strings"
	"testing"
)

// TestAdminNeedsNothing changes the password of an administrator who has no
// privilege at all, and whose pool leads nowhere.
func TestAdminNeedsNothing(t *testing.T) {
	s := connectionSubject(t)
	s.connection.Config.Port = 1
	v := s.create()
	s.set(v)
	s.accepted(v)
}

// TestAdminWithoutATurningBack sets when neither password is accepted, which
// nothing but a person can mend.
func TestAdminWithoutATurningBack(t *testing.T) {
	s := connectionSubject(t)
	v := s.create()
	s.secret.Pending = s.value(v)
	s.password(s.admin.Username)
	for _, err := range []error{s.Set(t.Context(), s.secret, v, unfenced), s.Undo(t.Context(), s.secret, unfenced)} {
		if !loginRefused(err) {
			t.Errorf("got %v, want that the login is refused", err)
		}
		wantSecretFree(t, err.Error(), v, s.secret.Current.Material)
	}
	_, err := s.Preflight(t.Context(), s.secret, v)
	if !loginRefused(err) {
		t.Errorf("preflight: %v, want that the login is refused", err)
	}
}

func TestAdminFindings(t *testing.T) {
	s := connectionSubject(t)
	s.sql("ALTER ROLE %s VALID UNTIL 'tomorrow'", s.admin.Username)
	findings, err := s.Preflight(t.Context(), s.secret, s.create())
	must(t, err)
	if len(findings) != 1 || !strings.Contains(findings[0], "VALID UNTIL 'infinity'") {
		t.Errorf("found %q", findings)
	}
}
