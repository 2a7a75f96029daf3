package rotation

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestLastLoginIsNotRetired has the server be as it was before a rotation: a replica that
// lacks it was promoted, or a backup restored. It refuses the current login and accepts the
// previous one, which the end of the overlap leaves alone until the current one works.
func TestLastLoginIsNotRetired(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	old := w.users["app_a"]
	_, err := w.do(rotate())
	must(t, err)
	current := w.users["app_b"]
	w.users["app_a"], w.users["app_b"] = old, ""
	w.adrift[identity(w.role.Snapshot().Secrets["db"].Current.Material)] = true
	_, err = w.do(Request{Kind: KindRetire, Trigger: TriggerManual, Reason: "test"})
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "everybody, because the target refuses the current value") {
		t.Errorf("by hand: %v", err)
	}
	w.idle(t, 25*time.Hour, 10)
	if s := w.role.Snapshot(); w.users["app_a"] != old || !strings.Contains(s.LastError, "it may be the only one that works") {
		t.Errorf("app_a has %q, it had %q: %s", w.users["app_a"], old, s.LastError)
	}
	w.users["app_b"] = current // which a repair sets
	w.idle(t, time.Hour, 10)
	if w.users["app_a"] != "" || w.role.Snapshot().Secrets["db"].Previous != nil {
		t.Errorf("app_a has %q after the repair", w.users["app_a"])
	}
	w.settled(t)
}

// TestEmergenciesAskForNoCurrentLogin retires by force, also at the second attempt, and
// revokes, while the server refuses what is current.
func TestEmergenciesAskForNoCurrentLogin(t *testing.T) {
	t.Parallel()
	for _, request := range []Request{
		{Kind: KindRetire, Trigger: TriggerManual, Force: true, Reason: "test"},
		{Kind: KindRotate, Trigger: TriggerManual, RevokePrevious: true, Reason: "test"},
	} {
		w := made(t, "db")
		_, err := w.do(rotate())
		must(t, err)
		refused := func() {
			w.users["app_a"], w.users["app_b"] = strings.Repeat("x", len(w.users["app_a"])), strings.Repeat("x", len(w.users["app_b"]))
		}
		w.hooks = map[string]func(){"db.retire": refused}
		if request.Kind == KindRetire {
			refused()
			w.adrift[identity(w.role.Snapshot().Secrets["db"].Current.Material)] = true
		}
		w.fail("db.retire", 0, fault{how: once})
		_, _ = w.do(request)
		w.hooks = nil
		w.idle(t, time.Hour, 5)
		if s := w.role.Snapshot(); s.Secrets["db"].Previous != nil {
			t.Errorf("%s: the previous login is kept: %s", request.Kind, s.LastError)
		}
	}
}

// TestRetirementAfterASnapshot restores Vault from a snapshot that was taken in an overlap.
// The password that the server has since is not the one that is due to be retired, and the
// server refuses what is current: it is left as it is.
func TestRetirementAfterASnapshot(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	_, err := w.do(rotate())
	must(t, err)
	snapshot := w.clone()
	w.idle(t, 25*time.Hour, 10)
	_, err = w.do(rotate())
	must(t, err)
	w.idle(t, 25*time.Hour, 10)
	newest := w.users["app_a"]
	w.stop()

	snapshot.users, snapshot.clock = w.users, w.now()
	snapshot.boot(t)
	defer func() { snapshot.stop() }()
	snapshot.idle(t, time.Hour, 10)
	if got := snapshot.users["app_a"]; got != newest {
		t.Errorf("app_a has %q, and applications use %q: %s", got, newest, snapshot.role.Snapshot().LastError)
	}
}
