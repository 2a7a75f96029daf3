package backend

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
)

// publishedRole is a role with a key and a pin, published to a Secrets Manager.
func publishedRole(m *mount, more ...any) *testenv.SecretsManager {
	m.Helper()
	sm := testenv.NewSecretsManager(m.T)
	m.listed("127.0.0.1")
	m.write("roles/default", d("rotation_period", "24h"))
	m.write("secrets/default/api", d("type", "api_key"))
	m.write("secrets/default/pin", d("type", "random"))
	m.tick(0)
	m.write("destinations/aws", m.inAWS(sm, more...))
	m.write("roles/default", d("destinations", "aws"))
	m.published("aws", publish.InSync)
	m.recorded("")
	return sm
}

// recorded waits until another publication than that one is recorded, which comes last.
func (m *mount) recorded(before string) (id string) {
	m.Helper()
	m.eventually("the record of a publication", func() bool {
		id = m.newest("default", "publish")
		return id != before && m.appended()
	})
	return id
}

// appended tells whether the newest entry of the history is in storage, where it comes
// after the state that has it.
func (m *mount) appended() bool {
	m.Helper()
	entry, err := m.storage.Get(m.Context(), entryKey(roles.Prefix+"default", len(m.list("history/default"))))
	return entry != nil && err == nil
}

// inAWS is what a destination is written with.
func (m *mount) inAWS(sm *testenv.SecretsManager, more ...any) map[string]any {
	fields := d("type", "aws_secrets_manager", "allowed_roles", "*", "region", "eu-central-1", "endpoint", sm.URL,
		"access_key_id", "AKIDEXAMPLE", "secret_access_key", "secret-access-key-0123456789",
		"values", []string{"smvm/{{role}}/api-key={{api_key}}", "smvm/{{role}}/pin={{pin_value}}"})
	for name, value := range d(more...) {
		fields[name] = value
	}
	return fields
}

const copiedName = "smvm/default/api-key"

// published waits until a copy of the default role is in that state.
func (m *mount) published(name, state string) map[string]any {
	m.Helper()
	var about map[string]any
	m.eventually(name+" to be "+state, func() bool {
		about, _ = m.read("status", nil)["destinations"].(map[string]any)[name].(map[string]any)
		return about["state"] == state
	})
	return about
}

// unfollowed waits until nothing follows a rotation any more, and that is recorded.
func (m *mount) unfollowed() {
	m.Helper()
	m.eventually("the end of what follows", func() bool {
		status := m.read("status", nil)
		if status["following"] != nil {
			m.tick(5 * time.Second)
			return false
		}
		return status["in_flight"] == nil && m.appended()
	})
}

// same fails the test unless the target holds what creds answers.
func (m *mount) same(sm *testenv.SecretsManager) {
	m.Helper()
	if got := sm.Value(copiedName); got != m.read("creds", nil)["api_key"] {
		m.Error("the target does not hold what creds answers")
	}
}

// TestDestinationFollowsRotations publishes at once, after rotations, and back.
func TestDestinationFollowsRotations(t *testing.T) {
	m := newMount(t)
	sm := publishedRole(m)
	m.same(sm)
	first := sm.Value(copiedName)
	if answer := m.write("rotate", nil); answer["status"] != "completed" || sm.Value(copiedName) == first {
		t.Errorf("the rotation answered %v", answer)
	}
	m.same(sm)
	m.write("rollback", nil)
	m.same(sm)
	if sm.Value(copiedName) != first {
		t.Error("after the rollback the target does not hold the value of before")
	}
	about := m.published("aws", publish.InSync)
	if about["version"] != m.version("default") || about["last_error"] != "" {
		t.Errorf("of the destination it is said %v", about)
	}
	if text := m.scrape(); !strings.Contains(text, `smvm_destination_roles{destination="aws",state="in_sync"} 1`) {
		t.Error("the metrics do not count it")
	}
	m.write("secrets/default/more", d("type", "random"))
	m.eventually("the version with another secret", func() bool { return m.published("aws", publish.InSync)["version"] == m.version("default") })
	m.wholeHistory("history/default")
}

// TestRequiredDestination rolls back what it does not take: at once if that is of no
// use to be tried again, otherwise after its deadline.
func TestRequiredDestination(t *testing.T) {
	m, r := newMount(t), newReceiver(t)
	sm := publishedRole(m, "required", true, "deadline", 30)
	before := m.read("creds", nil)["api_key"]
	m.write("alerts/hook", d("type", "webhook", "url", r.URL, "events", "destination_failed,destination_restored"))
	sm.Refuse("AccessDeniedException")
	m.fails(422, logical.UpdateOperation, "rotate", nil, "rolled back", "destination/aws", "permission denied", "previous values again")
	if after := m.read("creds", nil); after["api_key"] != before || sm.Value(copiedName) != before {
		t.Error("the values of before are not what is read, or what is published")
	}
	m.unfollowed()
	m.receives(r, "destination_failed")
	m.published("aws", publish.InSync) // which the target held all the time
	m.same(sm)

	sm.Refuse("LimitExceededException")
	version := m.version("default")
	if answer := m.write("rotate", d("wait", 0)); answer["status"] != "in_progress" {
		t.Errorf("the rotation answered %v", answer)
	}
	m.becomes("default", version+1)
	m.eventually("the way back", func() bool {
		m.tick(5 * time.Second)
		return m.version("default") == version+2
	})
	sm.Refuse("")
	m.unfollowed()
	m.same(sm)
}

// TestRequiredDestinationHeals goes on when the target is back before the deadline.
func TestRequiredDestinationHeals(t *testing.T) {
	m := newMount(t)
	sm := publishedRole(m, "required", true)
	sm.Refuse("InternalServiceError")
	version := m.version("default")
	m.write("rotate", d("wait", 0))
	m.becomes("default", version+1)
	m.boot()
	m.tick(2 * time.Second)
	m.boot()
	sm.Refuse("")
	m.unfollowed()
	if m.version("default") != version+1 {
		t.Error("it was rolled back")
	}
	m.same(sm)
}

// TestBestEffortDestination fails without consequences, is told, and is mended.
func TestBestEffortDestination(t *testing.T) {
	m, r := newMount(t), newReceiver(t)
	sm := publishedRole(m, "deadline", 10)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL, "events", "destination_failed,destination_restored"))
	sm.Refuse("LimitExceededException")
	version := m.version("default")
	m.write("rotate", d("wait", 0))
	m.becomes("default", version+1)
	m.unfollowed()
	if about := m.published("aws", publish.Failed); !strings.Contains(fmt.Sprint(about["last_error"]), "quota") {
		t.Errorf("of the destination it is said %v", about)
	}
	if rec := m.latestOf("follow"); !strings.Contains(fmt.Sprint(rec["issues"]), "quota") {
		t.Errorf("it is recorded as %v", rec)
	}
	sm.Refuse("")
	retry, _ := m.b.destinations.NextRetry(m.clock.now())
	if retry.IsZero() {
		t.Fatal("it is not to be tried again")
	}
	for _, d := range []time.Duration{retry.Sub(m.clock.now()) - 100*time.Millisecond, 0} {
		m.tick(d)
		m.eventually("that it is looked at", func() bool {
			_, woken := m.b.destinations.NextRetry(m.clock.now())
			return !woken
		})
	}
	m.clock.advance(time.Second) // when it is due, Vault's timer does not come
	m.published("aws", publish.InSync)
	m.same(sm)
	m.receives(r, "destination_failed", "destination_restored")
	if m.version("default") != version+1 {
		t.Error("it was rolled back")
	}
}

// latestOf is the newest record of a kind.
func (m *mount) latestOf(kind string) map[string]any {
	m.Helper()
	var latest map[string]any
	for _, id := range m.list("history/default") {
		if rec := m.read("history/default/"+id, nil); rec["kind"] == kind {
			latest = rec
		}
	}
	return latest
}

// TestDrift is repaired or reported.
func TestDrift(t *testing.T) {
	m, r := newMount(t), newReceiver(t)
	sm := publishedRole(m)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL, "events", "destination_drifted,destination_restored"))
	sm.Set(copiedName, "set-by-hand")
	m.tick(time.Minute)
	if sm.Value(copiedName) != "set-by-hand" {
		t.Error("it was looked at within a minute")
	}
	m.tick(time.Hour)
	m.eventually("the repair", func() bool { return sm.Value(copiedName) != "set-by-hand" })
	m.receives(r, "destination_drifted", "destination_restored")
	m.published("aws", publish.InSync)
	m.same(sm)

	m.write("destinations/aws", d("on_drift", "report"))
	m.published("aws", publish.InSync)
	sm.Set(copiedName, "set-again")
	m.tick(time.Hour)
	m.published("aws", publish.Drifted)
	m.tick(time.Hour)
	m.receives(r, "destination_drifted", "destination_restored", "destination_drifted")
	if sm.Value(copiedName) != "set-again" {
		t.Error("what was to be reported was repaired")
	}
	m.write("rotate", nil)
	m.published("aws", publish.InSync)
	m.same(sm)
	m.wholeHistory("history/default")
}

// TestDestinationBeforeChecks asks an application that has its key from the target.
func TestDestinationBeforeChecks(t *testing.T) {
	m := newMount(t)
	sm := publishedRole(m)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-Key") != sm.Value(copiedName) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(app.Close)
	m.write("checks/default/key", d("url", app.URL, "headers", "X-API-Key: {{api_key}}", "attempts", 1))
	if answer := m.write("rotate", nil); answer["status"] != "completed" {
		t.Errorf("the rotation answered %v", answer)
	}
}

// TestTwoDestinations are published to beside each other, one of which is down.
func TestTwoDestinations(t *testing.T) {
	m := newMount(t)
	sm := publishedRole(m)
	down := httptest.NewServer(http.NotFoundHandler())
	m.write("destinations/hook", d("type", "webhook", "url", down.URL, "key", "webhook-key-0123456789", "verify", false, "allowed_roles", "*",
		"values", []string{"key={{api_key}}"}))
	down.Close()
	m.write("roles/default", d("destinations", []string{"aws", "hook"}))
	m.published("hook", publish.Failed)
	before := m.read("creds", nil)["version"]
	m.write("rotate", d("wait", 0))
	m.eventually("the one that is up", func() bool {
		creds := m.read("creds", nil)
		return creds["version"] != before && sm.Value(copiedName) == creds["api_key"]
	})
	m.eventually("the deadline of the other", func() bool {
		m.tick(time.Minute)
		return m.read("status", nil)["following"] == nil && m.appended()
	})
	m.same(sm)
}

// TestDestinationIsNotSilent says what would be published, and what stays.
func TestDestinationIsNotSilent(t *testing.T) {
	m := newMount(t)
	sm := publishedRole(m)
	if plan := m.write("rotate", d("dry_run", true))["plan"].([]string); !slices.Contains(plan, "publish smvm/default/api-key, smvm/default/pin to AWS Secrets Manager of eu-central-1, by destination aws") {
		t.Errorf("the dry run tells %q", plan)
	}
	m.warns(logical.UpdateOperation, "destinations/aws", d("values", "smvm/{{role}}/api-key={{api_key}}"), "keeps smvm/default/api-key, smvm/default/pin as they are")
	m.warns(logical.UpdateOperation, "roles/default", d("destinations", ""), "destination aws: AWS Secrets Manager of eu-central-1 keeps smvm/default/api-key")
	m.write("roles/default", d("destinations", "aws"))
	m.published("aws", publish.InSync)
	for _, name := range m.list("secrets/default") {
		m.delete("secrets/default/" + name)
	}
	m.warns(logical.DeleteOperation, "roles/default", nil, "destination aws", "keeps smvm/default/api-key")
	if issues := fmt.Sprint(m.latestOf("delete")["issues"]); !strings.Contains(issues, "destination aws: AWS Secrets Manager of eu-central-1 keeps smvm/default/api-key") {
		t.Errorf("the record of the deletion says %s", issues)
	}
	if sm.Value(copiedName) == "" {
		t.Error("something was deleted")
	}
	m.delete("destinations/aws")
}

// warns sends a request whose warnings have to have all of the words.
func (m *mount) warns(op logical.Operation, path string, data map[string]any, words ...string) {
	m.Helper()
	resp, err := m.try(op, path, data)
	if m.must(resp, err); resp == nil {
		m.Fatalf("%s %s warns of nothing", op, path)
	}
	for _, word := range words {
		if !strings.Contains(strings.Join(resp.Warnings, "\n"), word) {
			m.Errorf("%s %s warns of %q, not of %q", op, path, resp.Warnings, word)
		}
	}
}

// TestBadDestinations are refused.
func TestBadDestinations(t *testing.T) {
	m := newMount(t)
	sm := publishedRole(m)
	for _, c := range []struct {
		path  string
		data  map[string]any
		words []string
	}{
		{"destinations/new", d("type", "ftp"), []string{"type", "webhook"}},
		{"destinations/new", d("type", "webhook", "region", "x"), []string{"region", "not a field of type webhook"}},
		{"destinations/aws", d("type", "webhook"), []string{"type", "cannot be changed"}},
		{"destinations/aws", d("values", "x={{nothing_here}}"), []string{"values", "{{nothing_here}}", "api_key"}},
		{"destinations/aws", d("values", "{{api_key}}={{api_key}}"), []string{"values", "names are logged"}},
		{"destinations/aws", d("endpoint", "http://127.0.0.1:1"), []string{"secret_access_key", "given again", "endpoint"}},
		{"destinations/aws", d("endpoint", "http://example.com", "secret_access_key", "x"), []string{"endpoint", "in clear"}},
		{"destinations/aws", d("required", true, "deadline", "13h"), []string{"deadline", "12h"}},
		{"roles/default", d("destinations", "nope"), []string{"destinations", "nope", "write destinations/nope"}},
		{"roles/default", d("destinations", []string{"aws", "aws"}), []string{"destinations", "twice"}},
	} {
		m.refused(logical.UpdateOperation, c.path, c.data, c.words...)
	}
	m.refused(logical.DeleteOperation, "destinations/aws", nil, "name", "default")
	sm.Set("theirs", "somebody-elses")
	first := m.newest("default", "publish")
	m.write("destinations/fine", m.inAWS(sm, "values", "fine={{api_key}}"))
	m.write("roles/default", d("destinations", "aws,fine"))
	if found := fmt.Sprint(m.read("verify", nil)["findings"]); !strings.Contains(found, "destination fine needs") || !strings.Contains(found, "CreateSecret, TagResource, PutSecretValue and UpdateSecretVersionStage") {
		t.Errorf("of what is not tried verify says %s", found)
	}
	m.recorded(first)
	m.refused(logical.UpdateOperation, "destinations/other", m.inAWS(sm, "values", "theirs={{api_key}}"), "theirs", "adopt=true", "verify=false")
	shown := m.read("destinations/aws", nil)
	if shown["secret_access_key"] != nil || shown["secret_access_key_set"] != true || !slices.Equal(shown["roles"].([]string), []string{"default"}) {
		t.Errorf("reading a destination shows %v", shown)
	}
	m.write("destinations/other", m.inAWS(sm, "values", "theirs={{api_key}}", "verify", false, "required", true))
	m.write("roles/default", d("destinations", "aws,other"))
	if report := m.read("verify", nil); report["ready"] != false || !strings.Contains(fmt.Sprint(report["findings"]), "destination other: theirs: refused") {
		t.Errorf("verify reports %v", report["findings"])
	}
	m.fails(422, logical.UpdateOperation, "rotate", nil, "destination other before the rotation", "adopt=true", "Nothing was changed")
	m.write("roles/later", d("destinations", "aws"))
	if about := m.read("status/later", nil)["destinations"].(map[string]any)["aws"].(map[string]any); about["state"] == publish.InSync {
		t.Errorf("a role without secrets is published: %v", about)
	}
}
