package rotation

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// What a caller is told must be what is true.
func TestAFailureSaysWhatIsTrueNow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		call    string
		pass    int
		times   int
		fault   fault
		outcome Outcome
		now     string
	}{
		"create":                {"db.create", 0, 1, fault{how: once}, OutcomeFailed, nowUnchanged},
		"intent refused":        {"save", 0, 1, fault{how: once}, OutcomeFailed, nowIntended},
		"fence":                 {"save", 1, 1, fault{how: once}, OutcomeRolledBack, nowRestored},
		"set":                   {"db.set", 0, 1, fault{how: once}, OutcomeRolledBack, nowRestored},
		"set refused":           {"app.set", 0, 1, fault{how: refused}, OutcomeRolledBack, nowRestored},
		"set did nothing":       {"app.set", 0, 1, fault{how: lies}, OutcomeRolledBack, nowRestored},
		"test":                  {"app.test", 0, 1, fault{how: refused}, OutcomeRolledBack, nowRestored},
		"test unanswered":       {"app.test", 0, 1, fault{how: once}, OutcomeRolledBack, nowRestored},
		"commit":                {"save", 3, commitAttempts, fault{how: once}, OutcomeFailed, nowInDoubt},
		"commit landed, silent": {"save", 3, 1, fault{how: once, landed: true}, OutcomeCompleted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := made(t, "app", "db")
			for range c.times {
				w.fail(c.call, c.pass, c.fault)
			}
			rec, err := w.do(rotate())
			if c.outcome == OutcomeCompleted {
				if err != nil || rec.Outcome != c.outcome || rec.Version != 3 || w.recorded[rec.ID] == "" {
					t.Errorf("%+v, %v", rec, err)
				}
				return
			}
			var f *Failure
			if !errors.As(err, &f) || f.Now != c.now || f.Record.Outcome != c.outcome || rec.ID != f.Record.ID {
				t.Fatalf("got %v, %+v", err, f)
			}
			for _, part := range []string{rec.ID, "rotate", "default", strings.ReplaceAll(string(c.outcome), "_", " "), c.now} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "secret-") {
				t.Errorf("%q shows a secret", err)
			}
		})
	}
}

func TestAStepErrorNamesSecretAndStep(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	w.fail("app.test", 0, fault{how: refused})
	_, err := w.do(rotate())
	var step *StepError
	if !errors.As(err, &step) || step.Secret != "app" || step.Step != "test" || !errors.Is(err, ErrRefused) {
		t.Fatalf("%v", err)
	}
	rec := w.role.Snapshot().Latest()
	var names []string
	for _, s := range rec.Results[0].Steps {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "create set test undo probe" || rec.Results[0].To != rec.Results[0].From {
		t.Errorf("steps of app: %s", got)
	}
}

func TestBreakingGlassSaysWhenTheOldValueIsStillAccepted(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	req := rotate()
	req.RevokePrevious = true
	w.always["db.retire"] = fault{how: forever}
	rec, err := w.do(req)
	if err != nil || rec.Version != 2 || !strings.Contains(strings.Join(rec.Issues, "\n"), "not revoked yet") {
		t.Errorf("%+v, %v", rec, err)
	}
	if w.role.Snapshot().Secrets["db"].PreviousAt(w.now()) != nil {
		t.Error("the revoked value is still offered")
	}
	w.heal()
	w.idle(t, time.Hour, 5)
	if w.users["app_a"] != "" {
		t.Error("the revoked value still works")
	}
	w.settled(t)
}

func TestRotatingInOverlapSaysThatItEndedEarly(t *testing.T) {
	t.Parallel()
	w := made(t, "db", "jwt")
	_, err := w.do(rotate())
	must(t, err)
	rec, err := w.do(rotate("db"))
	must(t, err)
	if len(rec.Issues) != 1 || !strings.Contains(rec.Issues[0], "previous value, version 1, was valid until 2026-03-02T12:00:00Z; this rotation ended that early") {
		t.Errorf("issues: %v", rec.Issues)
	}
	for range 3 {
		rec, err = w.do(rotate())
		must(t, err)
	}
	if len(rec.Issues) == 0 || !strings.Contains(rec.Issues[0], "secret db, jwt: the previous value, version 5, was valid until") {
		t.Errorf("issues about overlaps that are one: %v", rec.Issues)
	}
}

func TestRollingBackIsANewVersionOfTheOldValue(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	old := w.role.Snapshot().Secrets
	_, err := w.do(rotate())
	must(t, err)
	rec, err := w.do(Request{Kind: KindRollback, Trigger: TriggerManual, Reason: "bad release"})
	must(t, err)
	for name, secret := range w.role.Snapshot().Secrets {
		if !secret.Current.Material.Equal(old[name].Current.Material) || secret.Current.Version != 4 || rec.Version != 4 {
			t.Errorf("%s: version %d, not the value of before", name, secret.Current.Version)
		}
		if secret.Previous.Version != 3 || secret.Previous.RetireTime.IsZero() {
			t.Errorf("%s: previous is %d until %v", name, secret.Previous.Version, secret.Previous.RetireTime)
		}
	}
	w.settled(t)
}

func TestAPanicInADriverIsAnErrorThatDoesNotSpin(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	w.hooks = map[string]func(){"db.set": func() { panic("driver bug") }, "db.test": func() { panic("driver bug") }}
	if _, err := w.do(rotate()); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("%v", err)
	}
	w.idle(t, 10*time.Minute, 20)
	if len(w.broken) > 0 {
		t.Error(w.broken[0])
	}
	w.hooks = nil
	w.idle(t, 2*time.Hour, 20)
	w.settled(t)
}

func TestAnEngineThatWasStoppedTouchesNothing(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	w.stop()
	if _, err := w.do(rotate()); !errors.Is(err, errInterrupted) || len(w.calls) > 0 {
		t.Errorf("%v after %v", err, w.calls)
	}
}

func TestAPolicyThatMakesNoSenseIsNotSaved(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	err := w.role.change(t.Context(), nil, func(s *State) error { s.Policy.Schedule = "@every nonsense"; return nil })
	if err == nil || w.stored.Policy.Schedule != "" || w.role.Snapshot().Policy.Schedule != "" {
		t.Errorf("%v: stored %q", err, w.stored.Policy.Schedule)
	}
}
