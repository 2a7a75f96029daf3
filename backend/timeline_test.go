package backend

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// told returns the record to file of an operation.
func (m *mount) told(role string, id any) string {
	m.Helper()
	return m.read("history/"+role+"/"+id.(string), d("format", "markdown"))["markdown"].(string)
}

// tells fails the test unless the record has all of the lines.
func (m *mount) tells(record string, lines ...string) {
	m.Helper()
	for _, line := range lines {
		if !strings.Contains(record, line) {
			m.Errorf("the record lacks %q:\n%s", line, record)
		}
	}
}

// newest returns the id of the newest operation of that kind.
func (m *mount) newest(role, kind string) (id string) {
	m.Helper()
	resp, err := m.try(logical.ListOperation, "history/"+role, nil)
	data := m.must(resp, err)
	for _, each := range data["keys"].([]string) {
		if data["key_info"].(map[string]any)[each].(map[string]any)["kind"] == kind {
			id = each
		}
	}
	return id
}

// TestARecordHasTheWholeTimeline reads the record of one rotation again and again:
// while it is watched, when the watch has ended, and when the overlap has.
func TestARecordHasTheWholeTimeline(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "samples", 10, "percentile", 50, "concurrency", 1, "timeout", 30, "max_latency_increase", 10000, "watch_period", 60, "interval", 10)
	m.write("checks/default/door", d("url", a.URL, "phase", "before"))
	m.write("roles/default", d("rotation_period", "24h", "overlap", "2h"))
	id := m.write("rotate", d("wait", 0, "reason", "quarterly"))["rotation_id"]
	m.eventually("the commit", func() bool { return m.newest("default", "rotate") == id })
	m.tells(m.told("default", id),
		"- Role: default", "- Outcome: ✅ completed", "- Trigger: manual", "- Performed by: token-test, entity entity-test", "- Reason: quarterly",
		"- Functional testing: ✅ passed", "  - api: test: ✅ passed", "- Security testing: ⏳ overlap not over yet", "  - api: version 1, old secret invalidated: not shown yet: valid until the overlap ends at 2",
		"- Performance testing: ⏳ still running", "  - check/health: latency before the rotation: ", ", after: not measured",
		"- Integration testing: ⏳ still running", "  - check/door: ✅ passed: as expected before the rotation", "  - check/health: ⏳ still running: ",
		"- Next rotation: scheduled for ", "- Responsible: the engine")
	m.eventually("the end of the watch", func() bool { m.tick(10 * time.Second); return m.read("status", nil)["following"] == nil })
	watched := m.told("default", id)
	m.tells(watched,
		"- Performance testing: ✅ passed", "s, after: ", "- Integration testing: ✅ passed", "  - check/health: ✅ passed: ", " requests as expected; percentile 50 of the latency ",
		"## What Followed", "follow: ✅ completed; rotation ID: "+m.newest("default", "follow")+"; trigger: schedule; performed by: the engine", "- Security testing: ⏳ overlap not over yet")
	if strings.Contains(watched, "after: not measured") {
		t.Errorf("the latency was not measured:\n%s", watched)
	}
	m.tells(m.told("default", m.newest("default", "follow")), "- Operation: follow", fmt.Sprintf("- Trigger: schedule\n- Belongs to: rotate %v; trigger: manual\n- Performed by: the engine", id))
	m.eventually("the end of the overlap", func() bool { m.tick(time.Hour); return m.newest("default", "retire") != "" })
	m.tells(m.told("default", id), "- Security testing: ✅ passed", "  - api: version 1: retire: ✅ passed", "  - jwt: version 2: retire: ✅ passed", "  - api: version 1, old secret invalidated: refused by the engine's verify; not shown for the application: no check with phase=retire asked it",
		"retire: ✅ completed; rotation ID: "+m.newest("default", "retire")+"; trigger: schedule; performed by: the engine")
}

// TestARecordTellsWhyItWasRolledBack is about a check that fails after the
// cut-over, which the record of the rotation itself can't know.
func TestARecordTellsWhyItWasRolledBack(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "headers", "X-API-Key: {{api_key}}", "attempts", 1)
	old := m.read("creds", nil)["api_key"].(string)
	a.accepts.Store(&old)
	m.fails(http.StatusUnprocessableEntity, logical.UpdateOperation, "rotate", nil, "rolled back")
	id := m.newest("default", "rotate")
	m.tells(m.told("default", id), "- Integration testing: ❌ failed", "  - check/health: ❌ failed", "- Security testing: ➖ no result (ended by the rollback)",
		"  - api: version 1, old secret invalidated: not applicable: current again, by the rollback", "- Resolution: the role was rolled back to the earlier values, as version 4",
		"rollback: ✅ completed, version 4; rotation ID: "+m.newest("default", "rollback")+"; trigger: check; performed by: the engine; reason: check/health: 0 of 1 requests as expected; the latest failure: status 401, expected 200 to 299, after rotate "+id)
	m.tells(m.told("default", m.newest("default", "rollback")), "- Trigger: check\n- Rolls back: rotate "+id+"; trigger: manual\n")
}

// TestATimelineEnds is about what ends it early: another rotation, and that it does
// not reach into the timelines of others.
func TestATimelineEnds(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "watch_period", 60)
	first := m.write("rotate", d("wait", 0))["rotation_id"]
	m.eventually("the first look", func() bool {
		following, _ := m.read("status", nil)["following"].(map[string]any)
		return following != nil && strings.Contains(fmt.Sprint(following["tasks"]), "1 of 1 requests")
	})
	m.delete("checks/default/health")
	second := m.write("rotate", d("secrets", "api,jwt", "revoke_previous", true))["rotation_id"]
	m.tells(m.told("default", first), "- Integration testing: ➖ no result (ended by another operation)", "- Security testing: ➖ no result (ended by another operation)",
		"rotate: ✅ completed, version 4; rotation ID: "+second.(string)+"; trigger: manual; performed by: token-test, entity entity-test")
	record := m.told("default", second)
	m.tells(record, "- Security testing: ✅ passed", "  - api: version 3: retire: ✅ passed", "- Integration testing: not applicable: no checks or destinations")
	m.write("rotate", nil)
	if again := m.told("default", second); again != record {
		t.Errorf("a later rotation became part of the record:\n%s", again)
	}
}

// TestAReasonIsNoVerdict gives a reason that reads like what a check has found.
func TestAReasonIsNoVerdict(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "watch_period", 60)
	id := m.write("rotate", d("wait", 0))["rotation_id"]
	m.eventually("the end of the rotation", func() bool {
		return m.newest("default", "rotate") == id && m.read("status", nil)["in_flight"] == nil
	})
	m.write("rollback", d("wait", 0, "reason", "check/health: 0 of 3 requests as expected"))
	m.eventually("the rollback", func() bool { return m.newest("default", "rollback") != "" })
	record := m.told("default", id)
	m.tells(record, "- Integration testing: ➖ no result (ended by the rollback)", "  - check/health: ➖ no result (ended by the rollback)", "- Resolution: the role was rolled back to the earlier values")
}

// TestATimelineOfAnAdministrator is whole at once, because that password has no overlap.
func TestATimelineOfAnAdministrator(t *testing.T) {
	m := newMount(t)
	m.connect()
	id := m.write("rotate-root/main", nil)["rotation_id"].(string)
	record := m.read("connections/main/history/"+id, d("format", "markdown"))["markdown"].(string)
	m.tells(record, "- Connection: main", "- Next rotation: not scheduled", "- Responsible: (no automatic rotation; for a person to fill in: `vault write smvm/connections/main/history/"+id+"/note kind=responsible text=…`)", "- admin (connection): ✅ version 1 → 2", "- Security testing: ✅ passed", "  - admin: version 1: retire: ✅ passed", "  - admin: version 1, old secret invalidated: refused by the database")
}
