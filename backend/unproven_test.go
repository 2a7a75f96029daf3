package backend

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// failures counts the logins as a user that PostgreSQL has refused.
func (s *server) failures(user any) int {
	s.Helper()
	log, err := os.ReadFile(s.pg.LogPath)
	if err != nil {
		s.Fatal(err)
	}
	return strings.Count(string(log), fmt.Sprintf("password authentication failed for user %q", user))
}

// revoked is the record of the retirement that a rotation by hand has just made.
func (s *server) revoked() (issues, markdown string) {
	s.Helper()
	s.write("rotate/r", d("secrets", "db", "revoke_previous", true))
	id := s.newest("r", "retire")
	return fmt.Sprint(s.read("history/r/"+id, nil)["issues"]), s.told("r", s.newest("r", "rotate"))
}

// TestEmergenciesInARow replaces a password more often within an hour than is proven.
func TestEmergenciesInARow(t *testing.T) {
	m := withoutTries(t)
	s := m.connect()
	user := s.withKey()
	for n := 1; n <= 6; n++ {
		issues, markdown := s.revoked()
		proven := strings.Contains(issues, "is refused and destroyed") && !strings.Contains(markdown, "not proven")
		said := strings.Contains(issues, "is not proven: the engine did not try again") && strings.Contains(markdown, "Security testing: ⚠️ not proven")
		if proven != (n <= 4) || said != (n > 4) {
			t.Errorf("of rotation %d, the record says %s", n, issues)
		}
	}
	for range 3 {
		if report := m.read("verify/r", nil); report["valid"] != true || !strings.Contains(fmt.Sprint(report["secrets"]), "did not try again") {
			t.Errorf("verify answers %v", report["secrets"])
		}
	}
	if made := s.failures(user); made != 4 {
		t.Errorf("%d logins failed on purpose", made)
	}
	m.clock.advance(time.Hour)
	if issues, _ := s.revoked(); !strings.Contains(issues, "is refused and destroyed") {
		t.Errorf("an hour later, the record says %s", issues)
	}
}

// TestProofsTurnedOff turns them off for one connection.
func TestProofsTurnedOff(t *testing.T) {
	m := withoutTries(t)
	s := m.connect()
	user := s.withKey()
	if m.read("connections/main", nil)["prove_refusals"] != true {
		t.Error("by default nothing is proven")
	}
	m.write("connections/main", d("prove_refusals", false))
	if m.read("connections/main", nil)["prove_refusals"] != false {
		t.Error("it is not shown")
	}
	if issues, markdown := s.revoked(); !strings.Contains(issues, "is not proven: prove_refusals is false") || !strings.Contains(markdown, "⚠️ not proven") {
		t.Errorf("the record says %s", issues)
	}
	m.write("rotate-root/main", nil)
	if report := m.read("verify/r", nil); report["valid"] != true || !strings.Contains(fmt.Sprint(report["secrets"]), "not proven") {
		t.Errorf("verify answers %v", report)
	}
	if made := s.failures(user) + s.failures(s.admin); made != 0 {
		t.Errorf("%d logins failed on purpose", made)
	}
}
