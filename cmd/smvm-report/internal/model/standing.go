package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Standing is how old a secret is, and how old its policy lets it get.
type Standing struct {
	Subject, Secret, Type string
	Age, Policy           string
	// Next is how long it is to the next rotation, Due when that is.
	Next, Due string
	// Share is how much of the time that the policy allows has passed, in percent,
	// at most 100; negative if the policy sets no limit.
	Share    float64
	Previous string
	// Invalidated says who refuses the value that was retired last, Accepted that an
	// application does not.
	Invalidated string
	Accepted    bool
	// Readers is how many readers have the current version, and who is late; empty
	// without a previous value.
	Readers string
	// Note is what to know about the value.
	Note  string
	State State
}

// State is a judgement in the words of the page.
type State string

// The states, from good to bad.
const (
	byHand    State = "rotated manually"
	inPolicy  State = "within policy"
	dueSoon   State = "due soon"
	failing   State = "failing"
	older     State = "older than its policy allows"
	overdue   State = "overdue"
	attention State = "needs attention"
)

// rank orders states: what is worse comes first on the page.
func (s State) rank() int {
	return map[State]int{byHand: 0, inPolicy: 1, dueSoon: 2, failing: 3, older: 4, overdue: 5, attention: 6}[s]
}

// Class names the state for the style sheet.
func (s State) Class() string {
	return map[State]string{byHand: "idle", inPolicy: "good", dueSoon: "good", failing: "warn", older: "warn", overdue: "bad", attention: "bad"}[s]
}

// standings judges all secrets of a subject.
func (s *Subject) standings(now time.Time) []Standing {
	var found []Standing
	for _, name := range sorted(s.Status.Secrets) {
		secret := s.Status.Secrets[name]
		st := Standing{Subject: s.title(), Secret: name, Type: secret.Type, Policy: s.Policy.String(), Next: "not planned", Share: -1}
		if secret.ByRequestOnly {
			st.Policy = Policy{}.String()
		} else if next := s.Status.Next; !next.IsZero() {
			st.Next, st.Due = until(next.Sub(now)), Moment(next)
		}
		if secret.Current != nil {
			st.Age, st.Note = Span(now.Sub(secret.Current.Created)), s.origin(name, secret.Current.Version)
		}
		if st.Previous = secret.Previous.use(now); st.Previous != "" {
			st.Readers = s.Status.Readers.String()
		}
		st.Invalidated, st.Accepted = s.invalidated(name)
		st.State, st.Share = s.judge(secret, now)
		found = append(found, st)
	}
	return found
}

func until(d time.Duration) string {
	if d < 0 {
		return Span(-d) + " late"
	}
	return "in " + Span(d)
}

// String says when a subject rotates.
func (p Policy) String() string {
	switch {
	case !p.AutoRotate:
		return "manually"
	case p.Schedule != "":
		return p.Schedule
	}
	return "every " + Span(time.Duration(p.Period)*time.Second)
}

// judge compares the age of a value with the policy. A period counts from when
// the value was made, since a rollback brings an old one back; a schedule says
// itself when the value has to be replaced.
func (s *Subject) judge(secret Secret, now time.Time) (State, float64) {
	if s.Status.Attention {
		return attention, 100
	}
	if !s.Policy.AutoRotate || secret.ByRequestOnly || secret.Current == nil {
		return byHand, -1
	}
	created, limit := secret.Current.Created, s.Status.Next
	if s.Policy.Period > 0 {
		limit = created.Add(time.Duration(s.Policy.Period) * time.Second)
	}
	share := min(100, 100*float64(now.Sub(created))/float64(max(1, limit.Sub(created))))
	const soon = 90
	switch {
	case s.Status.Overdue:
		return overdue, 100
	case now.After(limit.Add(time.Minute)):
		return older, 100
	case s.Status.Failures > 0:
		return failing, share
	case share >= soon:
		return dueSoon, share
	}
	return inPolicy, share
}

// origin tells where the current value comes from, if that is not a rotation.
func (s *Subject) origin(secret string, version int) string {
	switch kind := s.Values[secret][version]; {
	case kind == rotation.KindRollback:
		return "brought back by a rollback"
	case kind == rotation.KindImport && !s.Rotated[secret]:
		return "imported, never rotated"
	case !s.Rotated[secret] && s.Kept == s.Entries:
		return "never rotated"
	}
	return ""
}

// invalidated says who refuses the value of a secret that was retired last, and whether an
// application accepts it; empty if none was since the beginning of the report.
func (s *Subject) invalidated(secret string) (text string, accepted bool) {
	for _, rec := range slices.Backward(s.Records) {
		at := slices.IndexFunc(rec.Results, func(r rotation.SecretResult) bool { return r.Secret == secret })
		if rec.Kind != rotation.KindRetire || at < 0 {
			continue
		}
		accepted = slices.ContainsFunc(rec.Tasks, func(t rotation.Task) bool {
			return t.Finding == rotation.FoundAccepted && slices.Contains(t.Secrets, secret)
		})
		return fmt.Sprintf("retired %s: %s", Moment(rec.Started), audit.Invalidation(rec, rec.Results[at])), accepted
	}
	return "", false
}

// String says how many readers have the current version, and who is late.
func (r Readers) String() string {
	if r.Known == 0 {
		return ""
	}
	text := fmt.Sprintf("%d of %s current", r.Current, count(r.Known, "reader"))
	for _, one := range r.Late[:min(len(r.Late), maxLate)] {
		text += fmt.Sprintf("; late: %s, has version %d, last read %s", one.title(), one.Version, Moment(one.LastRead))
	}
	if more := r.LateCount - maxLate; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// maxLate is how many readers that are late a row names.
const maxLate = 3

// title names a reader: many entities have one display name.
func (l Late) title() string {
	if l.EntityID == "" {
		return l.Name
	}
	return l.Name + " (entity " + cmp.Or(l.Entity, l.EntityID) + ")"
}

// use tells how long a previous value is valid, and who uses it.
func (previous *Stage) use(now time.Time) string {
	if previous == nil {
		return ""
	}
	parts := []string{"valid for " + Span(previous.RetireTime.Sub(now))}
	if !previous.RetireTime.After(now) {
		parts[0] = "overlap ending now"
	}
	if previous.Sessions != nil {
		parts = append(parts, count(*previous.Sessions, "open session"))
	}
	if previous.Uses > 0 {
		parts = append(parts, fmt.Sprintf("used %s, last %s", count(previous.Uses, "time"), Moment(previous.LastUsed)))
	}
	if len(previous.WaitsFor) > 0 {
		parts = append(parts, fmt.Sprintf("until %s at the latest, because it is needed by %s", Moment(previous.DrainUntil), strings.Join(previous.WaitsFor, ", ")))
	}
	return strings.Join(parts, "; ")
}
