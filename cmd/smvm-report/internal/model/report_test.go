package model

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func days(n float64) time.Time { return now.Add(-time.Duration(n * 24 * float64(time.Hour))) }

// role is one with a secret of that age that rotates every thirty days.
func role(name string, age float64) *Subject {
	return &Subject{
		Kind: "role", Name: name, Policy: Policy{Period: 30 * 86400, AutoRotate: true},
		Status: Status{
			Next: days(age).Add(30 * 24 * time.Hour), Version: 2,
			Secrets: map[string]Secret{"db": {Type: "database", Current: &Stage{Version: 2, Created: days(age)}}},
		},
		Rotated: map[string]bool{"db": true}, Values: map[string]map[int]rotation.Kind{},
	}
}

func record(id string, kind rotation.Kind, outcome rotation.Outcome, age float64) rotation.Record {
	return rotation.Record{
		Operation: rotation.Operation{ID: id, Kind: kind, Trigger: rotation.TriggerSchedule, Started: days(age), Secrets: []string{"db"}},
		Role:      "orders", Outcome: outcome, DurationMS: int64(100 * age),
		Results: []rotation.SecretResult{{Secret: "db", Type: "database", From: 1, To: 2, Steps: []rotation.Step{{Name: "set", DurationMS: 20, OK: true}, {Name: "test", DurationMS: 30, OK: outcome == rotation.OutcomeCompleted}}}},
	}
}

// TestStandings judges secrets against what their policies say.
func TestStandings(t *testing.T) {
	t.Parallel()
	overdueRole, sick, hand, cron, request := role("a", 31), role("b", 3), role("c", 400), role("d", 6), role("e", 400)
	overdueRole.Status.Overdue = true
	sick.Status.Attention = true
	struggling := role("s", 3)
	struggling.Status.Failures = 1
	hand.Policy.AutoRotate, hand.Status.Next = false, time.Time{}
	cron.Policy.Period, cron.Policy.Schedule, cron.Status.Next = 0, "0 3 * * 0", now.Add(24*time.Hour)
	request.Status.Secrets["db"] = Secret{Type: "api_key", ByRequestOnly: true, Current: &Stage{Version: 1, Created: days(400)}}
	brought := role("f", 45) // older than its period, though the role rotates in time
	brought.Status.Next = now.Add(10 * 24 * time.Hour)
	brought.Values["db"] = map[int]rotation.Kind{2: rotation.KindRollback}
	first := role("g", 28)
	first.Rotated = map[string]bool{}
	for _, c := range []struct {
		of    *Subject
		state State
		share float64
		note  string
	}{
		{role("fine", 15), inPolicy, 50, ""},
		{first, dueSoon, 93.3, "never rotated"},
		{overdueRole, overdue, 100, ""},
		{sick, attention, 100, ""},
		{struggling, failing, 10, ""},
		{hand, byHand, -1, ""},
		{cron, inPolicy, 85.7, ""},
		{request, byHand, -1, ""},
		{brought, older, 100, "brought back by a rollback"},
	} {
		got := c.of.standings(now)[0]
		if got.State != c.state || got.Share < c.share-0.1 || got.Share > c.share+0.1 || got.Note != c.note {
			t.Errorf("%s is %+v, want %s, %g %%, %q", c.of.Name, got, c.state, c.share, c.note)
		}
	}
}

// TestReadersInARow: a secret in its overlap says who has not read its current value.
func TestReadersInARow(t *testing.T) {
	t.Parallel()
	s := role("orders", 1)
	s.Status.Readers = Readers{Known: 3, Current: 1, LateCount: 5, Late: []Late{
		{Name: "approle", EntityID: "e-1", Entity: "orders-3", Version: 1, LastRead: days(2)},
		{Name: "approle", EntityID: "e-2", Version: 1, LastRead: days(2)},
		{Name: "root", Version: 1, LastRead: days(2)},
		{Name: "not named"},
		{Name: "nor this one"},
	}}
	if got := s.standings(now)[0].Readers; got != "" {
		t.Errorf("without a previous value it says %q", got)
	}
	s.Status.Secrets["db"] = Secret{Type: "database", Current: &Stage{Version: 2, Created: days(1)}, Previous: &Stage{Version: 1, RetireTime: now.Add(time.Hour)}}
	const read = "has version 1, last read 21 Nov 2026, 12:00"
	want := "1 of 3 readers current; late: approle (entity orders-3), " + read + "; late: approle (entity e-2), " + read + "; late: root, " + read + "; and 2 more"
	if got := s.standings(now)[0].Readers; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	s.Status.Readers = Readers{}
	if got := s.standings(now)[0].Readers; got != "" {
		t.Errorf("without readers it says %q", got)
	}
}

// TestASecretThatRotatesOnRequest is called as one of a role that rotates manually is.
func TestASecretThatRotatesOnRequest(t *testing.T) {
	t.Parallel()
	s := role("orders", 1)
	s.Status.Secrets["db"] = Secret{Type: "api_key", ByRequestOnly: true, Current: &Stage{Version: 1, Created: days(1)}}
	if st := s.standings(now)[0]; st.Policy != "manually" || st.State != byHand {
		t.Errorf("it rotates %s, and is %s", st.Policy, st.State)
	}
}

// TestOverlapThatGoesOn says who needs a previous value.
func TestOverlapThatGoesOn(t *testing.T) {
	t.Parallel()
	waiting := role("a", 2)
	waiting.Status.Secrets["db"] = Secret{Current: &Stage{Version: 2, Created: days(2)}, Previous: &Stage{
		Version: 1, RetireTime: now.Add(10 * time.Second), WaitsFor: []string{"instance-1", "open sessions"}, DrainUntil: now.Add(2 * time.Hour),
	}}
	if got := waiting.standings(now)[0].Previous; !strings.HasSuffix(got, "; until 23 Nov 2026, 14:00 at the latest, because it is needed by instance-1, open sessions") {
		t.Errorf("of the previous value the page says %q", got)
	}
}

// TestFigures counts a rotation that a check took back as one that did not succeed.
func TestFigures(t *testing.T) {
	t.Parallel()
	s := role("orders", 1)
	back := record("3", rotation.KindRollback, rotation.OutcomeCompleted, 1)
	back.Trigger, back.Follows = rotation.TriggerCheck, "2"
	s.Records = []rotation.Record{
		record("0", rotation.KindRotate, rotation.OutcomeCompleted, 9), record("1", rotation.KindRotate, rotation.OutcomeRolledBack, 3),
		record("2", rotation.KindRotate, rotation.OutcomeCompleted, 2), back,
	}
	s.Entries, s.Kept = 4, 4
	r := NewReport(&Engine{Mount: "smvm", Since: days(90), Subjects: []*Subject{s}}, now)
	text := fmt.Sprint(r.Figures)
	for _, want := range []string{"{Rotations 3 3 scheduled, 0 manual}", "{Succeeded 33.3 % 1 of 3 rotations}", "{Rollbacks 1 ", "{Median time 200 ms 95 % within 900 ms}", "{Histories intact 1 of 1 4 entries checked}"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	if r.Headline != "The only secret with a rotation policy complies with it. No action required." {
		t.Errorf("the headline is %q", r.Headline)
	}
	shapes := ""
	for _, m := range r.Lanes[0].Marks {
		shapes += m.Shape + " "
	}
	if shapes != "rotation failure rotation rollback " || len(r.Lanes[0].Bars) != 2 {
		t.Errorf("the timeline has %s, and %d overlaps", shapes, len(r.Lanes[0].Bars))
	}
	if shapes, whole := r.Lanes[0].Summary, r.Lanes[0].Entries; shapes != "2 rotations, 1 rollback, 1 failure" || whole != "4 entries" {
		t.Errorf("beside the timeline stands %q, %q", shapes, whole)
	}
	if len(r.Steps) != 2 || r.Steps[1].Failed != 1 || r.Steps[1].Median != "30 ms" {
		t.Errorf("the steps are %+v", r.Steps)
	}
}

// TestNotesStandWithTheirRecords: what is said about a record of the report is no operation
// of its own, and what is said about an older one is.
func TestNotesStandWithTheirRecords(t *testing.T) {
	t.Parallel()
	note := func(id, about, text string) rotation.Record {
		return rotation.Record{
			Operation: rotation.Operation{ID: id, Kind: rotation.KindNote, Trigger: rotation.TriggerManual, Started: days(1)},
			Outcome:   rotation.OutcomeCompleted, Note: &rotation.Note{About: about, Kind: rotation.NoteResolution, Text: text},
		}
	}
	s := role("orders", 1)
	s.Records = []rotation.Record{record("1", rotation.KindRotate, rotation.OutcomeCompleted, 2), note("2", "1", "first"), note("3", "0", "of an older one"), note("4", "1", "second")}
	r := NewReport(&Engine{Mount: "smvm", Since: days(90), Subjects: []*Subject{s}}, now)
	if len(r.Operations) != 2 || r.Operations[0].ID != "3" || r.Operations[0].Gist() != "of an older one" || len(r.Lanes[0].Marks) != 1 {
		t.Fatalf("the report has the operations %+v", r.Operations)
	}
	if notes := r.Operations[1].Notes; len(notes) != 2 || notes[0].ID != "2" || notes[1].Note.Text != "second" || notes[1].By() != "unknown (token without display name)" {
		t.Errorf("the rotation has the notes %+v", notes)
	}
}

// TestHeadlines counts the secrets that rotate automatically only.
func TestHeadlines(t *testing.T) {
	t.Parallel()
	late, hand, stopped := role("late", 31), role("hand", 400), role("stopped", 3)
	late.Status.Overdue, hand.Policy.AutoRotate = true, false
	stopped.Status.Attention, stopped.Status.Advice, stopped.Status.LastError = true, "write rotate/stopped.", "permission denied"
	for want, subjects := range map[string][]*Subject{
		"There are no secrets yet.":                                                                  nil,
		"No secret rotates automatically. No action required.":                                       {hand},
		"The only secret with a rotation policy does not comply with it. One thing requires action.": {late, hand},
		"The only secret with a rotation policy complies with it. No action required.":               {role("fine", 3), hand},
		"All 2 secrets with a rotation policy comply with it. No action required.":                   {role("fine", 3), role("fine", 4)},
		"1 of 3 secrets with a rotation policy comply with it. 2 things require action.":             {late, stopped, role("fine", 3)},
	} {
		if got := NewReport(&Engine{Subjects: subjects}, now).Headline; got != want {
			t.Errorf("the headline is %q, want %q", got, want)
		}
	}
	if got := stopped.troubles(); len(got) != 1 || got[0].Text != "write rotate/stopped. Last error: permission denied" {
		t.Errorf("what requires action is %v", got)
	}
}

// TestOnlyConnectionsAreCounted as such: the configuration has a history too.
func TestOnlyConnectionsAreCounted(t *testing.T) {
	t.Parallel()
	subjects := []*Subject{{Kind: "configuration"}, role("orders", 1), {Kind: "connection", Name: "main"}}
	if text := fmt.Sprint(NewReport(&Engine{Subjects: subjects}, now).Figures); !strings.Contains(text, "{Roles 1 and 1 connection}") {
		t.Errorf("the figures are %s", text)
	}
}

// TestMarks draws a repair as what it is, and names a person without a name as unknown.
func TestMarks(t *testing.T) {
	t.Parallel()
	s := role("orders", 1)
	for i, kind := range []rotation.Kind{rotation.KindCreate, rotation.KindImport, rotation.KindRepair, rotation.KindRetire} {
		rec := record(fmt.Sprint(i), kind, rotation.OutcomeCompleted, float64(9-i))
		rec.Trigger = rotation.TriggerManual
		s.Records = append(s.Records, rec)
	}
	lane, shapes := s.lane(days(90), now), ""
	for _, m := range lane.Marks {
		shapes += m.Shape + " "
	}
	if shapes != "first first repair " || lane.Summary != "1 repair" {
		t.Errorf("the timeline has %s, and says %q", shapes, lane.Summary)
	}
	if by := s.operations()[0].By(); by != "unknown (token without display name)" {
		t.Errorf("it was done by %q", by)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 28 * time.Millisecond: "28 ms", 1234 * time.Millisecond: "1.23 s", 45 * time.Second: "45 s",
		5 * time.Minute: "5 min", 26 * time.Hour: "26 h", 30 * 24 * time.Hour: "30 d",
	} {
		if got := Span(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

// TestRetiredValues has an application accept the value that was retired last: that is
// told with its secret, and what to do among what requires action.
func TestRetiredValues(t *testing.T) {
	t.Parallel()
	s := role("orders", 1)
	s.Status.Advice = "an application accepted a retired value: secret db"
	retire := func(age float64, found rotation.Finding, detail string) rotation.Record {
		rec := record("", rotation.KindRetire, rotation.OutcomeCompleted, age)
		rec.Results = []rotation.SecretResult{{Secret: "db", Type: "api_key", From: 2, To: 2, Steps: []rotation.Step{{Name: "retire", OK: true}}}}
		rec.Tasks = []rotation.Task{{Name: "check/dead", Done: true, Secrets: []string{"db"}, Finding: found, Detail: detail}}
		return rec
	}
	for _, c := range []struct {
		records  []rotation.Record
		accepted bool
		want     string
	}{
		{nil, false, ""},
		{[]rotation.Record{retire(3, rotation.FoundAccepted, "status 200"), retire(2, rotation.FoundRefused, "status 401")}, false, "retired 21 Nov 2026, 12:00: refused by the engine's verify; refused by the application (check dead, status 401)"},
		{[]rotation.Record{retire(3, rotation.FoundRefused, "status 401"), retire(2, rotation.FoundAccepted, "status 200")}, true, "retired 21 Nov 2026, 12:00: refused by the engine's verify; ACCEPTED by the application (check dead, status 200)"},
		{[]rotation.Record{retire(2, rotation.FoundNothing, "connection refused")}, false, "retired 21 Nov 2026, 12:00: refused by the engine's verify; not shown for the application (check dead, connection refused)"},
	} {
		s.Records = c.records
		r := NewReport(&Engine{Mount: "smvm", Since: days(90), Subjects: []*Subject{s}}, now)
		if got := r.Secrets[0]; got.Invalidated != c.want || got.Accepted != c.accepted {
			t.Errorf("the secret is %+v, want %q", got, c.want)
		}
		if len(r.Troubles) != 1 || r.Troubles[0].Text != s.Status.Advice {
			t.Errorf("what requires action is %+v", r.Troubles)
		}
	}
}
