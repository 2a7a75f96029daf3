package rotation

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestDecodeRefusesWhatItCannotContinue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ stored, want string }{
		"a newer format":          {`{"schema": 3, "later": true}`, "state has format 3, and this version reads 1 to 2"},
		"no format":               {`{}`, "state has format 0"},
		"a negative format":       {`{"schema": -1}`, "format -1"},
		"nothing":                 {``, "decode state"},
		"half a state":            {`{"schema": 1, "secrets": {"db": {"na`, "decode state"},
		"something else":          {`"state"`, "decode state"},
		"another type":            {`{"schema": 1, "version": "7"}`, "decode state"},
		"a secret that is null":   {`{"schema": 1, "secrets": {"db": null}}`, `secret "db" is not described`},
		"a secret misnamed":       {`{"schema": 1, "secrets": {"db": {"name": "jwt"}}}`, `secret "db" is not described`},
		"in flight with nothing":  {`{"schema": 1, "in_flight": {"kind": "rotate", "id": "1", "secrets": ["db"]}}`, `rotate 1 is in flight without a value for secret "db"`},
		"in flight without value": {`{"schema": 1, "in_flight": {"kind": "rotate", "id": "1", "secrets": ["db"]}, "secrets": {"db": {"name": "db"}}}`, "without a value"},
		"repairing nothing":       {`{"schema": 1, "in_flight": {"kind": "repair", "id": "1", "secrets": ["db"]}}`, "without a value"},
		"retiring nothing":        {`{"schema": 1, "in_flight": {"kind": "retire", "id": "1", "secrets": ["db"]}}`, "without a value"},
	} {
		if s, err := Decode([]byte(c.stored)); s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAStateSurvivesStorage(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db", "jwt")
	for _, moment := range []string{"app.set", "db.test"} {
		w.fail(moment, 0, fault{how: once})
		w.fail("db.undo", 0, fault{how: once})
		_, _ = w.do(rotate())
		s := w.role.Snapshot().State
		raw, err := json.Marshal(s)
		must(t, err)
		back, err := Decode(raw)
		must(t, err)
		again, err := json.Marshal(back)
		must(t, err)
		if !bytes.Equal(raw, again) {
			t.Errorf("%s\nbecame\n%s", raw, again)
		}
	}
}

func TestACloneCanBeChangedAlone(t *testing.T) {
	t.Parallel()
	s := &State{
		Secrets: map[string]*Secret{"db": {Name: "db", Current: &Value{Version: 1}}, "jwt": {Name: "jwt"}},
		Outbox:  []Entry{{Sequence: 1}},
	}
	before, err := json.Marshal(s)
	must(t, err)
	c := s.Clone()
	c.Secrets["db"].Pending = &Value{}
	c.Secrets["db"].Current = &Value{Version: 2}
	delete(c.Secrets, "jwt")
	c.Outbox[0].Sequence = 2
	c.Version, c.InFlight, c.NextRotation = 9, &Operation{}, time.Now()
	if after, err := json.Marshal(s); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%s became %s", before, after)
	}
}

// FuzzDecode reads anything that storage may hold: it is refused or it can be
// planned, cloned and stored again without a panic, and without becoming another.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schema":1,"version":3,"secrets":{"db":{"name":"db","type":"database","current":{"material":{"password":"x"},"version":3}}}}`))
	f.Add([]byte(`{"schema":1,"policy":{"schedule":"@every 1h","window":1,"auto_rotate":true},"next_rotation":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"schema":1,"in_flight":{"kind":"rotate","secrets":["a"]},"secrets":{"a":{"name":"a","pending":{}}}}`))
	f.Add([]byte(`{"schema":1,"outbox":[{"sequence":1,"record":{}}],"history":{"count":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(data)
		if err != nil {
			return
		}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := Decode(raw)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, raw)
		}
		if again, err := json.Marshal(back); err != nil || !bytes.Equal(raw, again) {
			t.Fatalf("%s\nbecame\n%s", raw, again)
		}
		use(t, s)
	})
}

// use does what the engine does with a state that it has read.
func use(t *testing.T, s *State) {
	t.Helper()
	s.Clone().dropAppended(s.History.Count)
	s.Latest()
	s.answer("request")
	_ = s.History.VerifyChain(s.Outbox)
	resolved, err := s.Policy.Resolve(Defaults{}, parseEvery, roleKey)
	if err != nil {
		return
	}
	snapshot := &Snapshot{State: s, Resolved: resolved}
	a := snapshot.NextAction(noon)
	if a.Kind == KindRotate && (s.NextRotation.IsZero() || a.At.Before(s.NextRotation)) {
		t.Fatalf("a rotation at %v, planned for %v", a.At, s.NextRotation)
	}
	snapshot.Overdue(noon)
	if ttl := snapshot.TTL(noon); ttl < 0 || ttl%time.Second != 0 {
		t.Fatalf("ttl %v", ttl)
	}
}
