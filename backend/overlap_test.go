package backend

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// needy is a mount where somebody needs previous values of role r.
type needy struct {
	*mount
	mu sync.Mutex
	by map[string][]string // by secret
}

func newNeedy(t *testing.T) *needy {
	n := &needy{mount: unbooted(t), by: map[string][]string{}}
	n.dependents = func(_ *rotation.Role, s *rotation.Secret) []string {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.by[s.Name]
	}
	n.boot()
	n.write("roles/r", d("rotation_period", "10h", "overlap", "1h", "overlap_limit", "2h"))
	n.write("secrets/r/jwt", d("type", "jwt"))
	n.write("secrets/r/key", d("type", "api_key"))
	return n
}

func (n *needy) needs(secret string, names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.by[secret] = names
}

// lives has the time go on in steps of that length.
func (n *needy) lives(steps int, step time.Duration) {
	n.Helper()
	for range steps {
		n.tick(step)
		n.eventually("that nothing is due", func() bool {
			r, err := n.b.findRole(n.Context(), "r")
			next := r.Snapshot().NextAction(n.clock.now())
			return err == nil && !r.Busy() && (next.Kind == "" || next.At.After(n.clock.now()))
		})
	}
}

// TestOverlapLimitIsChecked refuses limits that no overlap can have.
func TestOverlapLimitIsChecked(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "10h", "overlap", "1h"))
	for limit, words := range map[string][]string{
		"59m":  {"overlap_limit", "is 59m", "at least the overlap, which is 1h", "or 0"},
		"-1s":  {"overlap_limit"},
		"11h":  {"overlap_limit", "is 11h", "at most the 10h between two rotations"},
		"soon": {"overlap_limit"},
	} {
		m.refused(logical.UpdateOperation, "roles/r", d("overlap_limit", limit), words...)
	}
	m.refused(logical.UpdateOperation, "config", d("overlap_limit", "23h"), "overlap_limit", "is 23h", "at least the overlap, which is 24h")
	m.warns(logical.UpdateOperation, "roles/r", d("overlap", 10, "refresh_interval", 1, "overlap_limit", 20), "overlap_limit is 20 seconds")
	m.write("roles/r", d("overlap", "1h", "overlap_limit", "0"))
	for _, c := range []struct {
		path, limit string
		want        int64
	}{
		{"roles/r", "2h", 7200}, {"roles/r", "0", 0}, {"config", "48h", 36000}, {"roles/r", "1h", 3600}, {"roles/r", "0", 36000}, {"config", "0", 0},
	} {
		m.write(c.path, d("overlap_limit", c.limit))
		if got := m.read("roles/r", nil)["overlap_limit"]; got != c.want {
			t.Errorf("after %s has the limit %s, that of the role is %v, want %d", c.path, c.limit, got, c.want)
		}
	}
	m.write("roles/r", d("overlap_limit", "2h"))
	m.refused(logical.UpdateOperation, "roles/r", d("overlap", "3h"), "overlap_limit", "is 2h", "which is 3h")
}

// TestOverlapWaits tells for whom an overlap goes on, and when it has ended all the same.
func TestOverlapWaits(t *testing.T) {
	n, r := newNeedy(t), newReceiver(t)
	n.write("rotate/r", nil)
	n.clock.advance(time.Second)
	n.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook"))
	first := n.read("creds/r", d("stage", "previous"))
	n.needs("jwt", "instance-1")
	n.lives(1, 59*time.Minute+49*time.Second)
	if stage := n.stage("jwt", "previous"); stage["waits_for"] != nil || stage["drain_until"] != nil || n.read("status/r", nil)["advice"] != "" {
		t.Errorf("before the end of the overlap, status says %v", stage)
	}
	n.lives(4, 5*time.Second)
	stage, end := n.stage("jwt", "previous"), n.clock.now().Add(-10*time.Second)
	if fmt.Sprint(stage["waits_for"]) != "[instance-1]" || stage["drain_until"] != timestamp(end.Add(time.Hour)) || stage["valid"] != true {
		t.Errorf("status says %v, and it is %s", stage, n.clock.now())
	}
	if n.stage("key", "previous") != nil {
		t.Error("the overlap of the key, which nobody needs, goes on")
	}
	status := n.read("status/r", nil)
	for _, text := range []string{status["advice"].(string), status["report"].(string)} {
		for _, word := range []string{"instance-1", timestamp(end.Add(time.Hour)).(string), "retire/r with force=true"} {
			if !strings.Contains(text, word) {
				t.Errorf("status says %q, without %q", text, word)
			}
		}
	}
	if text := n.scrape(); !strings.Contains(text, `smvm_overlap_waiting{name="r",subject="role"} 1`) || !strings.Contains(text, `smvm_subjects_in_state{state="overlap_waiting",subject="role"} 1`) {
		t.Errorf("the metrics are\n%s", text)
	}
	n.receives(r, "overlap_waiting")
	n.noted("waiting")
	n.boot()
	n.needs("jwt", "instance-1", "instance-2")
	n.lives(3, 5*time.Second)
	n.receives(r, "overlap_waiting", "overlap_waiting")
	n.needs("jwt", "instance-2")
	n.lives(3, 5*time.Second)
	n.needs("jwt", "instance-2", "instance-1")
	n.lives(3, 5*time.Second)
	if again := n.read("creds/r", d("stage", "previous")); again["jwt_secret"] != first["jwt_secret"] {
		t.Error("the previous value is another one")
	}
	n.lives(1, time.Hour)
	n.overlapOver("jwt")
	n.receives(r, "overlap_waiting", "overlap_waiting", "overlap_limit_reached")
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, word := range []string{"by: instance-1", "by: instance-1, instance-2", "secret jwt, by: instance-2, instance-1"} {
		if message := r.events[i].Message; !strings.HasSuffix(message, word) {
			t.Errorf("event %d says %q, without %q", i, message, word)
		}
	}
	n.lastIssues("secret jwt: version 1 was retired when its wait ended, although it was still needed by: instance-2, instance-1")
	if text := n.scrape(); !strings.Contains(text, `smvm_overlap_waiting{name="r",subject="role"} 0`) {
		t.Errorf("the metrics are\n%s", text)
	}
}

// TestOverlapEndsByItself has everybody read some time after the overlap.
func TestOverlapEndsByItself(t *testing.T) {
	n, r := newNeedy(t), newReceiver(t)
	n.write("rotate/r", nil)
	n.clock.advance(time.Second)
	n.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook"))
	n.needs("key", "instance-1")
	n.lives(13, 5*time.Minute)
	if n.stage("key", "previous") == nil {
		t.Fatal("the overlap does not go on")
	}
	n.receives(r, "overlap_waiting") // which is told only while somebody is late
	n.needs("key")
	n.lives(4, 5*time.Second)
	if n.stage("key", "previous") != nil {
		t.Errorf("20 s after everybody has read: %v", n.stage("key", "previous"))
	}
	n.receives(r, "overlap_waiting")
	if rec := n.lastRecord(); strings.Contains(fmt.Sprint(rec), "instance-1") {
		t.Errorf("the record is %v", rec)
	}
}

// TestOverlapWaitsForMany tells once that it goes on for more than it names.
func TestOverlapWaitsForMany(t *testing.T) {
	n, r := newNeedy(t), newReceiver(t)
	n.write("rotate/r", nil)
	n.clock.advance(time.Second)
	n.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook"))
	var names []string
	for i := range 13 {
		names = append(names, fmt.Sprintf("instance-%02d", i))
	}
	n.needs("key", names[:11]...)
	n.lives(13, 5*time.Minute)
	n.receives(r, "overlap_waiting")
	n.needs("key", names...)
	n.lives(3, 5*time.Second)
	if is := fmt.Sprint(n.stage("key", "previous")["waits_for"]); !strings.HasSuffix(is, "instance-09 and 3 more]") {
		t.Errorf("it waits for %s", is)
	}
	n.needs("key")
	n.lives(4, 5*time.Second)
	if n.stage("key", "previous") != nil {
		t.Errorf("20 s after everybody has read: %v", n.stage("key", "previous"))
	}
	n.receives(r, "overlap_waiting")
}

// TestRetire ends overlaps by hand.
func TestRetire(t *testing.T) {
	n := newNeedy(t)
	n.refused(logical.UpdateOperation, "retire/r", nil, "no secret of r has a previous value to retire", "nothing was rotated yet")
	n.refused(logical.UpdateOperation, "retire/nobody", nil, "unknown role")
	n.write("rotate/r", nil)
	n.needs("jwt", "instance-1, which has read version 1 only", "instance-2")
	n.refused(logical.UpdateOperation, "retire/r", d("secrets", "kye"), "secrets", "kye", "it has: jwt, key")
	n.refused(logical.UpdateOperation, "retire/r", d("wait", "2m"), "wait")
	for range 2 {
		n.refused(logical.UpdateOperation, "retire/r", nil,
			"force: is not set", "secret jwt: instance-1, which has read version 1 only, instance-2. ", "Nothing was changed", "force=true")
	}
	answer := n.write("retire/r", d("secrets", "key", "reason", "everybody has read"))
	if answer["status"] != "completed" || !strings.Contains(answer["key_steps"].(string), "retire") || n.stage("key", "previous") != nil || n.stage("jwt", "previous") == nil {
		t.Errorf("the answer is %v", answer)
	}
	n.refused(logical.UpdateOperation, "retire/r", d("secrets", "key"), `secrets: "key" has no previous value to retire`, "these have: jwt")
	n.clock.advance(time.Second)
	resp, err := n.try(logical.UpdateOperation, "retire/r", d("force", true, "reason", "instance-1 is gone"))
	n.must(resp, err)
	if !strings.Contains(fmt.Sprint(resp.Warnings), "by force, although it was still needed by: instance-1") {
		t.Errorf("it warns of %q", resp.Warnings)
	}
	rec := n.lastRecord()
	result := rec["results"].([]any)[0].(map[string]any)
	if rec["kind"] != "retire" || rec["trigger"] != "manual" || rec["force"] != true || rec["reason"] != "instance-1 is gone" ||
		rec["actor"].(map[string]any)["display_name"] != "token-test" || fmt.Sprint(result["needed_by"]) != "[instance-1, which has read version 1 only instance-2]" {
		t.Errorf("the record is %v", rec)
	}
	n.read("creds/r", nil)
	n.refused(logical.ReadOperation, "creds/r", d("stage", "previous"), "no previous value")
	n.refused(logical.UpdateOperation, "retire/r", d("force", true), "previous value to retire")
}

// TestRetireNamesSessions asks the server of a login, and one that does not answer.
func TestRetireNamesSessions(t *testing.T) {
	m := newNeedy(t).mount
	m.untried = true
	m.boot()
	m.deleteRole("r")
	s := m.connect()
	s.draining(s.pair(), "")
	old := s.sessionAs(m.read("creds/r", nil), "db")
	m.write("rotate/r", nil)
	m.refused(logical.UpdateOperation, "retire/r", nil, "secret db: open sessions of the previous login: 1. ", "force=true")
	gone := s.described()
	gone["port"], gone["verify_connection"] = 1, false
	m.write("connections/main", gone)
	m.refused(logical.UpdateOperation, "retire/r", d("secrets", "db"), "secret db: open sessions of the previous login, which the engine could not count (")
	m.write("connections/main", s.described())
	m.write("retire/r", d("force", true))
	m.lastIssues("was retired by force, although it was still needed by: open sessions of the previous login: 1")
	if _, err := old.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("the session: %v", err)
	}
	m.write("rotate/r", nil)
	m.write("retire/r", nil)
	if issues := fmt.Sprint(m.lastRecord()["issues"]); strings.Contains(issues, "needed") {
		t.Errorf("what nobody needs: %s", issues)
	}
}

// TestOverlapWaitsForSessions waits for a login that is in use, whatever its
// on_overlap_end is, and terminates what is left at the limit.
func TestOverlapWaitsForSessions(t *testing.T) {
	m := newNeedy(t).mount
	m.deleteRole("r")
	s := m.connect()
	s.sql("GRANT pg_signal_backend TO %s", s.admin)
	s.draining(s.pair(), "terminate")
	m.write("roles/r", d("overlap_limit", "2h"))
	first := m.read("creds/r", nil)
	old := s.sessionAs(first, "db")
	m.write("rotate/r", nil)
	m.tick(time.Hour)
	m.eventually("the wait", func() bool {
		return fmt.Sprint(m.stage("db", "previous")["waits_for"]) == "[open sessions of the previous login]"
	})
	if err := logIn(t, first["db_username"], first["db_password"]); err != nil {
		t.Errorf("the login that is waited for: %v", err)
	}
	m.tick(time.Hour)
	m.overlapOver("db")
	m.eventually("its record", func() bool { return m.lastRecord()["kind"] == "retire" })
	m.lastIssues("open sessions that the engine terminated: ")
	if _, err := old.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session goes on")
	}
}

// TestOverlapIsProlonged tells by how much an overlap is longer that has ended while Vault was
// down.
func TestOverlapIsProlonged(t *testing.T) {
	n := newNeedy(t)
	n.write("rotate/r", nil)
	n.clock.advance(3 * time.Hour)
	n.boot()
	n.lives(2, time.Second)
	interval := n.read("roles/r", nil)["refresh_interval"].(int64)
	for _, name := range []string{"jwt", "key"} {
		stage := n.stage(name, "previous")
		if by, _ := stage["prolonged_by"].(int); int64(by) != interval || stage["valid"] != true {
			t.Errorf("readers could not read %s, and status says %v", name, stage)
		}
	}
	n.lives(1, time.Duration(interval)*time.Second)
	n.overlapOver("jwt")
}
