package notify

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestEventsOfRecords reads records as this version writes them, and as those did that
// had some facts in texts only.
func TestEventsOfRecords(t *testing.T) {
	for name, c := range map[string]struct{ record, event, destination, message string }{
		"drifted":                 {publishRecord("failed", `"failed":true,"finding":"drifted","detail":"drifted: x is missing"`), DestinationDrifted, "kv", "destination/kv does not hold the published values: x is missing"},
		"drifted, v0.1.0":         {publishRecord("failed", `"failed":true,"detail":"drifted: x is missing"`), DestinationDrifted, "kv", "destination/kv does not hold the published values: x is missing"},
		"restored":                {publishRecord("completed", `"finding":"restored","detail":"restored: version 2 is at kv"`), DestinationRestored, "kv", "destination/kv holds the values again: version 2 is at kv"},
		"restored, v0.1.0":        {publishRecord("completed", `"detail":"restored: version 2 is at kv"`), DestinationRestored, "kv", "destination/kv holds the values again: version 2 is at kv"},
		"failing":                 {publishRecord("failed", `"failed":true,"finding":"failing","detail":"permission denied"`), DestinationFailed, "kv", "destination/kv does not accept the values: permission denied"},
		"failing, v0.1.0":         {publishRecord("failed", `"failed":true,"detail":"permission denied"`), DestinationFailed, "kv", "destination/kv does not accept the values: permission denied"},
		"answered like a drift":   {publishRecord("failed", `"failed":true,"finding":"failing","detail":"drifted: says the server"`), DestinationFailed, "kv", "destination/kv does not accept the values: drifted: says the server"},
		"updated":                 {publishRecord("completed", `"finding":"updated","detail":"restored: is what the target is called"`), "", "", ""},
		"updated, v0.1.0":         {publishRecord("completed", `"detail":"version 2 is at kv"`), "", "", ""},
		"rolled back":             {rollbackRecord(`"failed_tasks":["destination/kv"],"reason":"refused, after rotate 1"`), DestinationFailed, "kv", "A required destination did not accept the new values: refused, after rotate 1"},
		"rolled back, v0.1.0":     {rollbackRecord(`"reason":"destination/kv: refused, after rotate 1"`), DestinationFailed, "kv", "A required destination did not accept the new values: destination/kv: refused, after rotate 1"},
		"sick":                    {rollbackRecord(`"failed_tasks":["check/a"],"reason":"destination/kv: says the application, after rotate 1"`), ApplicationDegraded, "", "Application degraded after rotation: destination/kv: says the application, after rotate 1"},
		"sick, v0.1.0":            {rollbackRecord(`"reason":"check/a: status 500, after rotate 1"`), ApplicationDegraded, "", "Application degraded after rotation: check/a: status 500, after rotate 1"},
		"accepted":                {retireRecord(`"failed":true,"finding":"accepted","detail":"status 200"`), RetiredValueAccepted, "", "The application accepts the retired value of api: check/a: status 200"},
		"nothing shown":           {retireRecord(`"failed":true,"finding":"not_shown","detail":"timeout"`), ApplicationDegraded, "", "Application degraded: it did not show that it refuses the retired value of api: check/a: timeout"},
		"not asked":               {retireRecord(`"dropped":true,"finding":"not_shown","detail":"deleted meanwhile"`), "", "", ""},
		"refused":                 {retireRecord(`"finding":"refused","detail":"status 401"`), "", "", ""},
		"needed at the limit":     {`{"id":"3","kind":"retire","trigger":"schedule","outcome":"completed","results":[{"secret":"a","needed_by":["x"]},{"secret":"b"},{"secret":"c","needed_by":["y","z"]}]}`, OverlapLimitReached, "", "The longest overlap has ended, and the engine retired previous values that were still needed: secret a, by: x; secret c, by: y, z"},
		"cut off by somebody":     {`{"id":"3","kind":"retire","trigger":"manual","force":true,"outcome":"completed","results":[{"secret":"a","needed_by":["x"],"forced":true}]}`, "", "", ""},
		"retired":                 {`{"id":"3","kind":"retire","trigger":"schedule","outcome":"completed","results":[{"secret":"a"}]}`, "", "", ""},
		"rolled back by somebody": {`{"id":"2","kind":"rollback","trigger":"manual","outcome":"completed","reason":"destination/kv: no"}`, RotationRolledBack, "", "The role is back on its previous values, as the new version 0"},
	} {
		t.Run(name, func(t *testing.T) {
			var rec rotation.Record
			if err := json.Unmarshal([]byte(c.record), &rec); err != nil {
				t.Fatal(err)
			}
			events := FromRecord(rec, false)
			if c.event == "" {
				if len(events) > 0 {
					t.Errorf("the events are %+v", events)
				}
				return
			}
			if len(events) == 0 || events[0].Event != c.event || events[0].Destination != c.destination || events[0].Message != c.message {
				t.Errorf("the events are %+v", events)
			}
		})
	}
}

// TestCheckBeforeThatFails has a check with phase=before and on_failure=alert: a rotation
// goes on although it failed, and somebody is told, also if nothing follows the commit.
func TestCheckBeforeThatFails(t *testing.T) {
	const failed = `{"name":"check/a","done":true,"failed":true,"detail":"before the rotation: status 503"}`
	for tasks, want := range map[string][]string{
		failed:                                     {RotationStarted, ApplicationDegraded},
		failed + `,{"name":"check/b"}`:             {RotationStarted},
		`{"name":"check/a","done":true}`:           {RotationStarted, RotationCompleted},
		`{"name":"check/a","done":true},` + failed: {RotationStarted, ApplicationDegraded},
	} {
		var rec rotation.Record
		if err := json.Unmarshal([]byte(`{"id":"1","kind":"rotate","outcome":"completed","tasks":[`+tasks+`]}`), &rec); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range FromRecord(rec, false) {
			got = append(got, e.Event)
		}
		if !slices.Equal(got, want) {
			t.Errorf("of the tasks %s the events are %v, not %v", tasks, got, want)
		}
	}
}

// TestAFailureSaysWhatItLeft has the message of rotation_failed say for each outcome
// whether anything was changed, and which secrets are unresolved.
func TestAFailureSaysWhatItLeft(t *testing.T) {
	const unresolved = `],"results":[{"secret":"app","unresolved":true},{"secret":"db","unresolved":true},{"secret":"x"}`
	for _, c := range []struct{ kind, outcome, issues, event, message string }{
		{"rotate", "failed", `"check health: status 503"`, RotationFailed, "Secret rotation failed and changed nothing - manual intervention may be required: check health: status 503"},
		{"rotate", "failed", `"secret db: test: no"` + unresolved, RotationFailed, "Secret rotation failed and left a value unresolved (status has the cause): secret app, db - manual intervention may be required: secret db: test: no"},
		{"rotate", "failed", `"secret db is unresolved since 2026-11-29T18:00:00Z: no"`, RotationFailed, "Secret rotation failed and changed nothing - manual intervention may be required: secret db is unresolved since 2026-11-29T18:00:00Z: no"},
		{"rotate", "failed", ``, RotationFailed, "Secret rotation failed and changed nothing - manual intervention may be required: see the history"},
		{"rotate", "rolled_back", `"secret db: test: no"`, RotationRolledBack, "Secret rotation was rolled back, and readers keep values that work: secret db: test: no"},
		{"rollback", "failed", `"secret db: set: no"`, RotationFailed, "A rollback failed and changed nothing - manual intervention required: secret db: set: no"},
		{"rollback", "failed", `"secret db: set: no"` + unresolved, RotationFailed, "A rollback failed and left a value unresolved (status has the cause): secret app, db - manual intervention required: secret db: set: no"},
		{"rollback", "rolled_back", `"secret db: test: no"`, RotationFailed, "A rollback failed and the engine put the targets back - manual intervention required: secret db: test: no"},
	} {
		var rec rotation.Record
		if err := json.Unmarshal([]byte(`{"id":"1","kind":"`+c.kind+`","outcome":"`+c.outcome+`","issues":[`+c.issues+`]}`), &rec); err != nil {
			t.Fatal(err)
		}
		events := FromRecord(rec, false)
		if got := events[len(events)-1]; got.Event != c.event || got.Message != c.message {
			t.Errorf("%s %s: %s %q, want %q", c.kind, c.outcome, got.Event, got.Message, c.message)
		}
	}
}

// retireRecord is one of a retirement with a check of that outcome.
func retireRecord(check string, more ...string) string {
	return `{"id":"2","kind":"retire","outcome":"completed",` + strings.Join(more, "") + `"tasks":[{"name":"check/a","done":true,"secrets":["api"],` + check + `}]}`
}

// publishRecord is the record of a task at destination kv.
func publishRecord(outcome, task string) string {
	return `{"id":"1","kind":"publish","trigger":"schedule","outcome":"` + outcome + `","tasks":[{"name":"destination/kv","done":true,` + task + `}]}`
}

// rollbackRecord is the record of a rollback after a failed task.
func rollbackRecord(about string) string {
	return `{"id":"2","kind":"rollback","trigger":"check","outcome":"completed","follows":"1",` + about + `}`
}

// TestNamesHaveSeverities compares the events that can be subscribed to with those that
// are known.
func TestNamesHaveSeverities(t *testing.T) {
	names := Names()
	for name := range severities {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not listed", name)
		}
	}
	if len(names) != len(severities) {
		t.Errorf("%d events are listed, %d are known", len(names), len(severities))
	}
}
