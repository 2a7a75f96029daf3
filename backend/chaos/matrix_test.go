package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/verification"
)

// What "make chaos" sets: that every cell of the matrix is to be run, or those of
// one column, by its name, or of some operations, by theirs, with commas between them.
// Cells that have passed are noted in a file, which is for one commit, and those that it
// has are not run again.
const (
	allVariable        = "SMVM_CHAOS_ALL"
	columnVariable     = "SMVM_CHAOS_COLUMN"
	operationsVariable = "SMVM_CHAOS_OPERATIONS"
	passedVariable     = "SMVM_CHAOS_PASSED"
)

// atOnce is how many cells one fault strikes at most.
const atOnce = 24

// TestMatrix strikes every operation at every point with every fault. Without
// SMVM_CHAOS_ALL it runs a cut: each point, with one strategy, in one column.
func TestMatrix(t *testing.T) {
	passed, err := verification.Open(os.Getenv(passedVariable))
	must(t, err)
	m := &matrix{lab: newLab(t), rows: rows(), cells: map[string]*cell{}, passed: passed}
	all, only := os.Getenv(allVariable) != "", os.Getenv(columnVariable)
	if some := os.Getenv(operationsVariable); some != "" {
		m.rows = slices.DeleteFunc(m.rows, func(r row) bool { return !slices.Contains(strings.Split(some, ","), r.op) })
	}
	cols := slices.DeleteFunc(columns(), func(col column) bool {
		return only != "" && col.name != only || only == "" && col.slow && !all
	})
	left := m.left(cols, m.choose(cols, all || only != ""))
	t.Logf("%d cells are left, %d have passed before", len(slices.Concat(left...)), m.before)
	for i, chosen := range left {
		for _, alike := range apart(chosen) {
			for part := range slices.Chunk(alike, atOnce) {
				m.strike(t, cols[i], part)
			}
		}
	}
	m.print(t)
	must(t, passed.Close())
}

// matrix is what has been run.
type matrix struct {
	*lab
	rows  []row
	cells map[string]*cell // by row and column
	// passed are the cells that have passed, before of them in earlier runs.
	passed *verification.Passed
	before int
	pool   []*app
	made   int
}

// choose returns the rows that are run in each column: all that apply, or every
// other one in one column each, and as many in one as in another: of those that have
// as many, in the one that has the least choice.
func (m *matrix) choose(cols []column, all bool) [][]row {
	chosen := make([][]row, len(cols))
	for at, r := range m.cut(all) {
		fewest := -1
		for i := range cols {
			i = (i + at) % len(cols)
			switch {
			case !cols[i].takes(r):
			case all:
				chosen[i] = append(chosen[i], r)
			case fewest < 0 || cmp.Or(len(chosen[i])-len(chosen[fewest]), m.choice(cols[i])-m.choice(cols[fewest])) < 0:
				fewest = i
			}
		}
		if fewest >= 0 {
			chosen[fewest] = append(chosen[fewest], r)
		}
	}
	return chosen
}

// left returns the chosen rows that have not passed before in their column.
func (m *matrix) left(cols []column, chosen [][]row) [][]row {
	for i, col := range cols {
		chosen[i] = slices.DeleteFunc(chosen[i], func(r row) bool {
			note, ok := m.passed.Before(key(r, col))
			took, err := time.ParseDuration(note)
			if !ok || err != nil {
				return false
			}
			m.cells[key(r, col)] = &cell{took: took}
			m.before++
			return true
		})
	}
	return chosen
}

// apart tells the rows whose operations come to their points at once, where some of them
// can't stay for long, from those to which the engine comes by itself.
func apart(rows []row) [2][]row {
	var parts [2][]row
	for _, r := range rows {
		at := 0
		if r.operation().attend != nil {
			at = 1
		}
		parts[at] = append(parts[at], r)
	}
	return parts
}

// choice is how many rows a column takes.
func (m *matrix) choice(col column) (n int) {
	for _, r := range m.rows {
		if col.takes(r) {
			n++
		}
	}
	return n
}

// cut returns all rows, or of each point only the one with the strategy whose
// turn it is.
func (m *matrix) cut(all bool) []row {
	if all {
		return m.rows
	}
	var some []row
	seen, turn := map[string]bool{}, false
	for _, r := range m.rows {
		if seen[r.name()] || !r.isShort() {
			continue
		}
		turn = !turn
		if turn && r.op != opRoot {
			other := slices.IndexFunc(m.rows, func(o row) bool { return o.name() == r.name() && o.strategy != r.strategy })
			if other >= 0 {
				r = m.rows[other]
			}
		}
		seen[r.name()] = true
		some = append(some, r)
	}
	return some
}

// strike runs cells of one column at the same time.
func (m *matrix) strike(t *testing.T, col column, chosen []row) {
	t.Helper()
	if t.Context().Err() != nil {
		return
	}
	g := &group{lab: m.lab, column: col}
	apps := m.take(t, chosen)
	for i, r := range chosen {
		c := &cell{app: apps[i], row: r}
		g.cells = append(g.cells, c)
		m.cells[key(r, col)] = c
	}
	began := time.Now()
	err := errors.Join(g.run(t.Context()), m.logged())
	if err != nil {
		t.Error(err)
	}
	for _, c := range g.cells {
		switch {
		case c.harness != nil:
			t.Errorf("%s × %s, %s, %s: not run: %v; the request: %s", c.row.name(), col.name, c.row.strategy, c.app.id, c.harness, c.describe())
		case c.lost != nil:
			t.Errorf("%s × %s, %s, %s: LOST: %v; the request: %s", c.row.name(), col.name, c.row.strategy, c.app.id, c.lost, c.describe())
		case c.stuck:
			t.Errorf("%s × %s, %s, %s: STUCK for %s; the request: %s", c.row.name(), col.name, c.row.strategy, c.app.id, c.took, c.describe())
		default:
			m.pool = append(m.pool, c.app)
			if err == nil {
				must(t, m.passed.Add(key(c.row, col), c.took.Round(time.Millisecond).String()))
			}
		}
	}
	t.Logf("%s: %d cells in %s", col.name, len(g.cells), time.Since(began).Round(time.Millisecond))
}

func key(r row, col column) string { return r.strategy + " " + r.name() + " × " + col.name }

// take returns an app for each row: one that has been through other cells well,
// or a new one.
func (m *matrix) take(t *testing.T, chosen []row) []*app {
	t.Helper()
	apps := make([]*app, len(chosen))
	var missing []int
	for i, r := range chosen {
		at := slices.IndexFunc(m.pool, func(a *app) bool { return a.strategy == r.strategy })
		if at < 0 {
			missing = append(missing, i)
			continue
		}
		apps[i] = m.pool[at]
		m.pool = slices.Delete(m.pool, at, at+1)
	}
	first := m.made
	m.made += len(missing)
	numbers := map[int]int{}
	for n, i := range missing {
		numbers[i] = first + n
	}
	parallel(aFew, missing, func(i int) { apps[i] = m.newAppFor(t, chosen[i], numbers[i]) })
	if slices.Contains(apps, nil) {
		t.FailNow()
	}
	return apps
}

func (m *matrix) newAppFor(t *testing.T, r row, n int) *app {
	a, err := m.newApp(t.Context(), fmt.Sprintf("app%03d", n), r.strategy)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() {
		if err := a.proxy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// print shows the table: how long each cell took to recover, in milliseconds.
func (m *matrix) print(t *testing.T) {
	var out strings.Builder
	out.WriteString("\nRecovered after milliseconds; . not run here; - cannot happen\n\n")
	for i, col := range columns() {
		fmt.Fprintf(&out, "%4c  %s\n", 'A'+i, col.name)
	}
	fmt.Fprintf(&out, "\n%-18s%-34s", "", "")
	for i := range columns() {
		fmt.Fprintf(&out, "%7c", 'A'+i)
	}
	out.WriteString("\n")
	for _, r := range m.rows {
		fmt.Fprintf(&out, "%-18s%-34s", strings.TrimSuffix(r.strategy, "_users"), r.name())
		for _, col := range columns() {
			fmt.Fprintf(&out, "%7s", m.result(r, col))
		}
		out.WriteString("\n")
	}
	t.Log(out.String() + m.summary())
}

func (m *matrix) result(r row, col column) string {
	c := m.cells[key(r, col)]
	switch {
	case !col.takes(r):
		return "-"
	case c == nil:
		return "."
	case c.harness != nil:
		return "?"
	case c.lost != nil:
		return "LOST"
	}
	return fmt.Sprint(c.took.Milliseconds())
}

func (m *matrix) summary() string {
	var times []time.Duration
	lost, stuck := 0, 0
	for _, c := range m.cells {
		if c.stuck {
			stuck++
		}
		if c.lost != nil {
			lost++
		} else if c.harness == nil {
			times = append(times, c.took)
		}
	}
	slices.Sort(times)
	if len(times) == 0 {
		return "\nno cell recovered\n"
	}
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("\ncells run: %d (%d of them in earlier runs), recovered: %d, lost: %d, stuck: %d, recovery time: median %s, max %s\n",
		len(m.cells), m.before, len(times), lost, stuck, round(times[len(times)/2]), round(times[len(times)-1]))
}
