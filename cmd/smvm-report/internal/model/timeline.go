package model

import (
	"fmt"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Lane is the timeline of one subject. Places are in percent of the width, so
// that the drawing fits every screen.
type Lane struct {
	Title string
	// Summary says in words what is drawn.
	Summary string
	Class   string
	Bars    []Bar
	Marks   []Mark
	// Entries says how much of the history was verified, Whole whether all of that
	// is as it was written.
	Entries string
	Whole   bool
}

// Bar is an overlap.
type Bar struct {
	From, Width float64
	Title       string
}

// Mark is an operation.
type Mark struct {
	At float64
	// Shape is rotation, rollback, repair, failure or first.
	Shape, Title string
}

// Tick is a line across all lanes.
type Tick struct {
	At    float64
	Label string
	// Class is early or late near an edge, and minor if small screens have no room
	// for the label.
	Class string
}

// Lane draws what a subject's records say.
func (s *Subject) lane(from, to time.Time) Lane {
	l := Lane{Title: s.title(), Bars: s.overlaps(from, to), Entries: count(s.Kept, "entry"), Whole: s.Problem == "", Class: "good"}
	if len(s.troubles()) > 0 {
		l.Class = "bad"
	}
	drawn := map[string]int{}
	for _, op := range s.operations() {
		shape := op.shape()
		if shape == "" {
			continue
		}
		drawn[shape]++
		title := fmt.Sprintf("%s: %s %s, %s", Moment(op.Started), op.Kind, op.Result(), op.By())
		l.Marks = append(l.Marks, Mark{At: place(op.Started, from, to), Shape: shape, Title: title})
	}
	l.Summary = summary(drawn)
	return l
}

// summary says in words what is drawn.
func summary(drawn map[string]int) string {
	var parts []string
	for _, shape := range []string{"rotation", "rollback", "repair", "failure"} {
		if drawn[shape] > 0 {
			parts = append(parts, count(drawn[shape], shape))
		}
	}
	if len(parts) == 0 {
		return "not rotated"
	}
	return strings.Join(parts, ", ")
}

// shape is how an operation is drawn, empty if it is not.
func (op Operation) shape() string {
	switch op.Kind {
	case rotation.KindCreate, rotation.KindImport, rotation.KindRotate, rotation.KindRollback, rotation.KindRepair:
	default:
		if op.Outcome == rotation.OutcomeCompleted {
			return ""
		}
		return "failure"
	}
	switch {
	case op.Outcome != rotation.OutcomeCompleted:
		return "failure"
	case op.Kind == rotation.KindRollback:
		return "rollback"
	case op.Kind == rotation.KindRotate:
		return "rotation"
	case op.Kind == rotation.KindRepair:
		return "repair"
	}
	return "first"
}

// overlaps are the times in which a previous value of any secret was valid: from
// the commit that replaced it to a retirement, or to the next commit.
func (s *Subject) overlaps(from, to time.Time) []Bar {
	var bars []Bar
	var began time.Time
	end := func(at time.Time) {
		if !began.IsZero() && at.After(began) {
			left := place(began, from, to)
			bars = append(bars, Bar{left, place(at, from, to) - left, "overlap, " + Span(at.Sub(began))})
		}
		began = time.Time{}
	}
	for _, rec := range s.Records {
		committed := rec.Started.Add(time.Duration(rec.DurationMS) * time.Millisecond)
		switch {
		case rec.Outcome != rotation.OutcomeCompleted:
		case rec.Kind == rotation.KindRotate || rec.Kind == rotation.KindRollback:
			end(committed)
			if !rec.RevokePrevious {
				began = committed
			}
		case rec.Kind == rotation.KindRetire:
			end(committed)
		}
	}
	if s.overlapping() {
		end(to)
	}
	return bars
}

// overlapping reports whether a previous value is valid now.
func (s *Subject) overlapping() bool {
	for _, secret := range s.Status.Secrets {
		if secret.Previous != nil {
			return true
		}
	}
	return false
}

// place is where a time is drawn, in percent.
func place(t, from, to time.Time) float64 {
	share := 100 * float64(t.Sub(from)) / float64(max(1, to.Sub(from)))
	return float64(int(max(0, min(100, share))*100)) / 100
}

// scales are the distances between ticks, and how their labels are written.
var scales = []struct {
	step   time.Duration
	format string
}{
	{10 * time.Second, "15:04:05"},
	{30 * time.Second, "15:04:05"},
	{time.Minute, "15:04"},
	{5 * time.Minute, "15:04"},
	{15 * time.Minute, "15:04"},
	{time.Hour, "15:04"},
	{3 * time.Hour, "2 Jan 15:04"},
	{12 * time.Hour, "2 Jan 15:04"},
	{24 * time.Hour, "2 Jan"},
	{7 * 24 * time.Hour, "2 Jan"},
	{14 * 24 * time.Hour, "2 Jan"},
	{30 * 24 * time.Hour, "2 Jan 2006"},
	{91 * 24 * time.Hour, "2 Jan 2006"},
	{365 * 24 * time.Hour, "2006"},
}

// maxTicks is how many labels fit beside each other.
const maxTicks = 8

// ticks divides the time between from and to into at most maxTicks parts.
func ticks(from, to time.Time) []Tick {
	scale := scales[len(scales)-1]
	for _, s := range scales {
		if to.Sub(from) <= maxTicks*s.step {
			scale = s
			break
		}
	}
	var found []Tick
	for at := from.UTC().Truncate(scale.step); at.Before(to); at = at.Add(scale.step) {
		if at.After(from) {
			found = append(found, newTick(place(at, from, to), at.Format(scale.format), len(found)))
		}
	}
	return found
}

func newTick(at float64, label string, number int) Tick {
	const edge = 8
	classes := []string{"", "minor"}
	t := Tick{at, label, classes[number%2]}
	switch {
	case at < edge:
		t.Class += " early"
	case at > 100-edge:
		t.Class += " late"
	}
	return t
}
