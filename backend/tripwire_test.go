package backend

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/tripwire"
)

// guarded is a mount with the role r, which has an API key and a key for tokens.
func guarded(t *testing.T) *mount {
	t.Helper()
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "720h", "overlap", "1h", "refresh_interval", "5m"))
	m.write("secrets/r/key", d("type", "api_key"))
	m.write("secrets/r/jwt", d("type", "jwt", "algorithm", "ES256", "max_ttl", "10m"))
	return m
}

// presents asks to verify a key or token, and returns the reason of the answer.
func (m *mount) presents(path, field, text string) any {
	m.Helper()
	req := m.request(logical.UpdateOperation, path, d(field, text))
	req.Connection = &logical.Connection{RemoteAddr: "192.0.2.7"}
	answer := m.must(m.send(req))
	if answer["valid"] != false || answer["error"] == "" {
		m.Errorf("%s answers %v", path, answer)
	}
	return answer["reason"]
}

const verifyKey = "api-key/r/key/verify"

// TestRetiredValuePresented goes with a key and a token over the end of their overlap: one
// event for each, once an hour, with who asked and from where, also after a crash.
func TestRetiredValuePresented(t *testing.T) {
	m, r := guarded(t), newReceiver(t)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook", "events", "retired_value_used"))
	key, token := m.read("creds/r/key", nil)["key"].(string), m.token(d("sub", "orders"), "")
	m.write("rotate/r", d("revoke_previous", true))
	for range 3 {
		if got := m.presents(verifyKey, "key", key); got != "retired" {
			t.Errorf("the reason of a retired key is %v", got)
		}
		if got := m.presents(verify, "token", token); got != "retired" {
			t.Errorf("the reason of a token of a retired key is %v", got)
		}
	}
	m.receives(r, "retired_value_used", "retired_value_used")
	told := r.told()
	for _, words := range []string{"secret key, version 1", "names the retired key of secret jwt, version 2", "token-test (entity entity-test)", "192.0.2.7"} {
		if !strings.Contains(told, words) {
			t.Errorf("the events do not say %q: %s", words, told)
		}
	}
	if text := m.read("metrics", nil)[logical.HTTPRawBody]; !strings.Contains(fmt.Sprintf("%s", text), "smvm_retired_values_presented_total 6") {
		t.Error("the metric does not count the six requests")
	}
	for _, other := range []string{"smvm_not-this-one", m.read("creds/r/key", nil)["key"].(string) + "x"} {
		if got := m.presents(verifyKey, "key", other); got != "" {
			t.Errorf("the reason of a key that never was one is %v", got)
		}
	}

	m.boot()
	m.tick(59 * time.Minute)
	m.presents(verifyKey, "key", key)
	m.tick(time.Minute)
	m.presents(verifyKey, "key", key)
	m.eventually("the use after an hour to be sent", func() bool { return len(r.ids()) == 3 })
	if events := r.received(); events[len(events)-1].Time.Sub(events[0].Time) < time.Hour {
		t.Errorf("a use within an hour is an event: %v", events)
	}
	m.clock.advance(time.Second)
	later := newReceiver(t)
	m.write("alerts/later", d("type", "webhook", "url", later.URL+"/hook", "events", "retired_value_used"))
	m.clock.advance(time.Hour)
	m.presents(verifyKey, "key", key)
	m.receives(later, "retired_value_used") // and none of those before it was written
	m.eventually("the same to be sent to both", func() bool { return len(r.ids()) == 4 && r.ids()[3] == later.ids()[0] })
	m.keepsNone(key)
}

// told is everything that was received.
func (r *receiver) told() string { return fmt.Sprint(r.received()) }

func (r *receiver) received() []notify.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// keepsNone looks for values where only what recognizes them may be.
func (m *mount) keepsNone(values ...string) {
	m.Helper()
	for entry, content := range m.storage.contents(m.T) {
		for _, v := range values {
			if strings.Contains(content, v) {
				m.Errorf("%s holds a retired value", entry)
			}
		}
		if strings.HasPrefix(entry, tripwire.Prefix) || strings.HasPrefix(entry, historyPrefix) {
			m.storage.findIn(m.T, content)
		}
	}
}

// TestReadOnlyNode has a request repeated on the node that can note the use of a retired
// value, and answers by itself what is noted already, or is no such value.
func TestReadOnlyNode(t *testing.T) {
	m := guarded(t)
	key := m.read("creds/r/key", nil)["key"].(string)
	m.write("rotate/r", d("revoke_previous", true))
	m.system.ReplicationStateVal = consts.ReplicationPerformanceStandby
	if _, err := m.try(logical.UpdateOperation, verifyKey, d("key", key)); !errors.Is(err, logical.ErrReadOnly) {
		t.Errorf("the first use ends with %v", err)
	}
	if got := m.presents(verifyKey, "key", "smvm_not-this-one"); got != "" {
		t.Errorf("the reason of another key is %v", got)
	}
	m.system.ReplicationStateVal = consts.ReplicationUnknown
	m.presents(verifyKey, "key", key)
	m.eventually("the use to be stored", func() bool { return strings.Contains(m.storage.contents(t)["retired/role/r"], "192.0.2.7") })
	m.system.ReplicationStateVal = consts.ReplicationPerformanceStandby
	m.b.invalidate(t.Context(), "retired/role/r")
	if got := m.presents(verifyKey, "key", key); got != "retired" {
		t.Errorf("a use that is noted already has the reason %v", got)
	}
}

// TestEachWayOut follows values of all types until their role has them no more, however
// that comes about. None is found as retired before, and each after.
func TestEachWayOut(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	users := s.pair()
	m.write("roles/r", d("rotation_period", "24h", "overlap", "1h", "refresh_interval", "5m"))
	secrets := map[string]string{"db": "password", "key": "key", "jwt": "secret", "pin": "value"}
	create := func() {
		m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users))
		m.write("secrets/r/key", d("type", "api_key"))
		m.write("secrets/r/jwt", d("type", "jwt"))
		m.write("secrets/r/pin", d("type", "random"))
	}
	values := func() map[string]string {
		now := map[string]string{}
		for name, field := range secrets {
			now[name] = m.read("creds/r/"+name, nil)[field].(string)
		}
		return now
	}
	create()
	for _, c := range []struct {
		what string
		out  func()
	}{
		{"the end of the overlap", func() {
			m.write("rotate/r", nil)
			m.tick(61 * time.Minute)
			m.overlapOver("pin", "db")
		}},
		{"revocation", func() { m.write("rotate/r", d("revoke_previous", true)) }},
		{"another rotation in the overlap", func() {
			m.write("rotate/r", nil)
			m.write("rotate/r", nil)
		}},
		{"deletion", func() {
			for name := range secrets {
				m.delete("secrets/r/" + name)
			}
		}},
	} {
		before := values()
		m.clock.advance(time.Second)
		c.out()
		for name, text := range before {
			if got := m.stagesOf(text); got != "r/"+name+" retired" {
				t.Errorf("after %s the value of %s is %q", c.what, name, got)
			}
		}
	}

	create()
	first := values()
	m.write("rotate/r", nil)
	second := values()
	m.write("rollback/r", nil)
	for name := range secrets {
		if back, undone := m.stagesOf(first[name]), m.stagesOf(second[name]); back != "r/"+name+" current" || undone != "r/"+name+" previous" {
			t.Errorf("after a rollback the values of %s are %q and %q", name, back, undone)
		}
	}
	m.tick(61 * time.Minute)
	m.overlapOver("pin", "db")
	for name := range secrets {
		if back, undone := m.stagesOf(first[name]), m.stagesOf(second[name]); back != "r/"+name+" current" || undone != "r/"+name+" retired" {
			t.Errorf("after the overlap of a rollback the values of %s are %q and %q", name, back, undone)
		}
	}

	m.write("rotate-root/main", nil)
	if got := m.stagesOf(s.password); got != "connections/main/admin retired" {
		t.Errorf("the first password of the administrator is %q", got)
	}
	for name := range secrets {
		m.delete("secrets/r/" + name)
	}
	m.delete("roles/r")
	if got := m.stagesOf(first["pin"]); got != "r/pin retired" {
		t.Errorf("a value of a role that was deleted is %q", got)
	}
	m.keepsNone(s.password, second["db"], second["pin"])
}

// stagesOf asks what a value is or was.
func (m *mount) stagesOf(text string) string {
	m.Helper()
	var all []string
	for _, v := range m.write("leaked", d("value", text))["values"].([]map[string]any) {
		subject := fmt.Sprint(v["role"])
		if v["connection"] != nil {
			subject = fmt.Sprintf("connections/%v", v["connection"])
		}
		all = append(all, fmt.Sprintf("%s/%v %v", subject, v["secret"], v["stage"]))
	}
	return strings.Join(all, ", ")
}

// TestCrashBeforeForgetting ends the process between the write of what recognizes a value
// and that of the state without it, and tries all over.
func TestCrashBeforeForgetting(t *testing.T) {
	for puts := range 8 {
		m := guarded(t)
		key := m.read("creds/r/key", nil)["key"].(string)
		m.write("rotate/r", nil)
		m.clock.advance(61 * time.Minute)
		m.storage.allowPuts(puts)
		r, err := m.b.findRole(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		run, err := r.Start(t.Context(), rotation.Request{Kind: rotation.KindRetire, Trigger: rotation.TriggerSchedule})
		if err == nil {
			<-run.Done()
		}
		stages := m.stagesOf(key)
		state := m.storage.contents(t)["role/r"]
		if has := strings.Contains(state, key); has != strings.HasSuffix(stages, "previous") || !has != strings.HasSuffix(stages, "retired") {
			t.Errorf("after %d writes the value is %q, and in the state: %t", puts, stages, has)
		}
		m.storage.allowPuts(-1)
		m.boot()
		m.version("r") // it is loaded, and readers could read
		m.tick(time.Hour)
		m.overlapOver("key")
		if got := m.stagesOf(key); got != "r/key retired" {
			t.Errorf("in the end, after %d writes, the value is %q", puts, got)
		}
		if kept := strings.Count(m.storage.contents(t)["retired/role/r"], `"secret":"key"`); kept != 1 {
			t.Errorf("after %d writes the value is kept %d times", puts, kept)
		}
	}
}

// TestTripwireRetention keeps what recognizes values for as long as config says.
func TestTripwireRetention(t *testing.T) {
	m := guarded(t)
	if got := m.read("config", nil)["tripwire_retention"]; got != int64(90*86400) {
		t.Errorf("by default it is %v", got)
	}
	m.refused(logical.UpdateOperation, "config", d("tripwire_retention", "59m"), "tripwire_retention", "an hour or more")
	m.refused(logical.UpdateOperation, "config", d("tripwire_retention", -1), "tripwire_retention")
	m.write("config", d("tripwire_retention", "2d"))
	key := m.read("creds/r/key", nil)["key"].(string)
	m.write("rotate/r", d("revoke_previous", true))
	m.clock.advance(2*24*time.Hour - time.Second)
	if got := m.stagesOf(key); got != "r/key retired" {
		t.Errorf("in time the value is %q", got)
	}
	m.clock.advance(time.Second)
	if got, reason := m.stagesOf(key), m.presents(verifyKey, "key", key); got != "" || reason != "" {
		t.Errorf("after that it is %q, with the reason %v", got, reason)
	}
	m.write("config", d("tripwire_retention", "1d"))
	m.eventually("it to be dropped", func() bool { return m.storage.contents(t)["retired/role/r"] == "" })

	second := m.read("creds/r/key", nil)["key"].(string)
	m.write("rotate/r", d("revoke_previous", true))
	m.write("config", d("tripwire_retention", 0))
	m.eventually("all to be dropped", func() bool { return m.storage.contents(t)["retired/role/r"] == "" })
	third := m.read("creds/r/key", nil)["key"].(string)
	m.write("rotate/r", d("revoke_previous", true))
	for _, text := range []string{second, third} {
		if got, reason := m.stagesOf(text), m.presents(verifyKey, "key", text); got != "" || reason != "" {
			t.Errorf("without retention a retired value is %q, with the reason %v", got, reason)
		}
	}
	if kept := m.storage.contents(t)["retired/role/r"]; kept != "" {
		t.Errorf("without retention there is %s", kept)
	}
}

// TestTripwireDamaged retires values although what is kept of earlier ones is damaged.
func TestTripwireDamaged(t *testing.T) {
	m := guarded(t)
	if err := m.storage.Put(t.Context(), &logical.StorageEntry{Key: "retired/role/r", Value: []byte(`{"values":[{"sha256":["x"]}]}`)}); err != nil {
		t.Fatal(err)
	}
	key := m.read("creds/r/key", nil)["key"].(string)
	m.write("rotate/r", d("revoke_previous", true))
	if got := m.stagesOf(key); got != "r/key retired" {
		t.Errorf("the value is %q", got)
	}
	if !strings.Contains(m.said.text(), "what is kept of retired values is damaged") {
		t.Error("the log does not say that it was damaged")
	}
}
