package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// standing is how old a secret is, against what its policy says.
type standing struct {
	Subject, Secret, Type string
	Age, Policy           string
	// Next is how long it is to the next rotation, Due when that is.
	Next, Due string
	// Share is how much of the time that the policy allows has passed, in percent,
	// at most 100; negative if it allows any.
	Share    float64
	Previous string
	// Note is what to know about the value.
	Note  string
	State state
}

// state is a judgement in the words of the page.
type state string

// The states, from good to bad.
const (
	byHand    state = "by hand"
	inPolicy  state = "within policy"
	dueSoon   state = "due soon"
	failing   state = "failing"
	older     state = "older than policy"
	overdue   state = "overdue"
	attention state = "needs attention"
)

// rank orders states: what is worse comes first on the page.
func (s state) rank() int {
	return map[state]int{byHand: 0, inPolicy: 1, dueSoon: 2, failing: 3, older: 4, overdue: 5, attention: 6}[s]
}

// Class names the state for the style sheet.
func (s state) Class() string {
	return map[state]string{byHand: "idle", inPolicy: "good", dueSoon: "good", failing: "warn", older: "warn", overdue: "bad", attention: "bad"}[s]
}

// standings judges all secrets of a subject.
func (s *subject) standings(now time.Time) []standing {
	var found []standing
	for _, name := range sorted(s.Status.Secrets) {
		secret := s.Status.Secrets[name]
		st := standing{Subject: s.title(), Secret: name, Type: secret.Type, Policy: s.Policy.describe(), Next: "not planned", Share: -1}
		if secret.ByRequestOnly {
			st.Policy = "on request only"
		} else if next := s.Status.Next; !next.IsZero() {
			st.Next, st.Due = until(next.Sub(now)), moment(next)
		}
		if secret.Current != nil {
			st.Age, st.Note = span(now.Sub(secret.Current.Created)), s.origin(name, secret.Current.Version)
		}
		st.Previous = secret.Previous.use(now)
		st.State, st.Share = s.judge(secret, now)
		found = append(found, st)
	}
	return found
}

func until(d time.Duration) string {
	if d < 0 {
		return span(-d) + " late"
	}
	return "in " + span(d)
}

// describe says when a subject rotates.
func (p policy) describe() string {
	switch {
	case !p.AutoRotate:
		return "by hand"
	case p.Schedule != "":
		return p.Schedule
	}
	return "every " + span(time.Duration(p.Period)*time.Second)
}

// judge compares the age of a value with the policy. A period counts from when
// the value was made, since a rollback brings an old one back; a schedule says
// itself when the value has to be replaced.
func (s *subject) judge(secret secretState, now time.Time) (state, float64) {
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
func (s *subject) origin(secret string, version int) string {
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

// use tells how long a previous value is valid, and who uses it.
func (previous *stage) use(now time.Time) string {
	if previous == nil {
		return ""
	}
	parts := []string{"valid for " + span(previous.RetireTime.Sub(now))}
	if !previous.RetireTime.After(now) {
		parts[0] = "ends"
	}
	if previous.Sessions != nil {
		parts = append(parts, count(*previous.Sessions, "open session"))
	}
	if previous.Uses > 0 {
		parts = append(parts, fmt.Sprintf("used %s, last %s", count(previous.Uses, "time"), moment(previous.LastUsed)))
	}
	return strings.Join(parts, "; ")
}
