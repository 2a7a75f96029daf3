package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// dashboard is what Grafana reads of bootstrap/operate/monitoring/grafana-dashboard.json,
// as far as it matters here.
type dashboard struct {
	SchemaVersion int
	UID, Title    string
	Templating    struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
		}
	}
	Annotations struct {
		List []struct{ Target struct{ Expr string } }
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  struct{ UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		RefID, Expr string
		Datasource  struct{ UID string }
	}
}

func shippedDashboard(t *testing.T) *dashboard {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(kitDir(t), "grafana-dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	d := &dashboard{}
	if err := json.Unmarshal(text, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboardIsWellFormed checks what Grafana would stumble over, or silently put
// right: ids that are not unique, panels over each other, a data source that only
// exists where the dashboard was made.
func TestDashboardIsWellFormed(t *testing.T) {
	t.Parallel()
	d := shippedDashboard(t)
	if d.SchemaVersion < 36 || d.UID == "" || d.Title == "" || len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" {
		t.Errorf("schemaVersion %d, uid %q, title %q, variables %v", d.SchemaVersion, d.UID, d.Title, d.Templating.List)
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" || !slices.Contains([]string{"row", "stat", "timeseries", "table"}, p.Type) {
			t.Errorf("panel %d, %q, is a %s", p.ID, p.Title, p.Type)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies over %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		p.sources(t)
	}
}

// sources checks that a panel asks the data source that the reader chose.
func (p panel) sources(t *testing.T) {
	t.Helper()
	if p.Type == "row" {
		return
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		if target.Expr == "" || refs[target.RefID] || target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
			t.Errorf("%q asks %q of %q as %q", p.Title, target.Expr, target.Datasource.UID, target.RefID)
		}
		refs[target.RefID] = true
	}
	if len(refs) == 0 {
		t.Errorf("%q asks nothing", p.Title)
	}
}

// queries are all that the dashboard asks Prometheus, as it asks when it shows
// everything of the last minutes.
func (d *dashboard) queries() []string {
	chosen := strings.NewReplacer("$__rate_interval", "1m", "$__range", "5m", "$job", ".*", "$subject", ".*", "$name", ".*")
	var all []string
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, chosen.Replace(target.Expr))
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, chosen.Replace(a.Target.Expr))
	}
	for _, v := range d.Templating.List {
		var query struct{ Query string }
		if json.Unmarshal(v.Query, &query) == nil {
			all = append(all, regexp.MustCompile(`^label_values\((.*), [a-z]+\)$`).ReplaceAllString(chosen.Replace(query.Query), "$1"))
		}
	}
	return all
}

// TestDashboard asks a real Prometheus, which scrapes a real engine, all that the
// shipped dashboard asks. Only what needs something to have gone wrong may be
// answered with nothing.
func TestDashboard(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	prometheus := e.prometheus("127.0.0.1:1")
	e.orders("alternating_users", map[string]any{"rotation_period": "24h"})
	e.write("alerts/nobody", map[string]any{"type": "webhook", "url": "http://127.0.0.1:1/"})
	const rotations = `sum(smvm_operations_total{kind="rotate"})`
	e.measures(prometheus, rotations, "0")
	e.write("rotate", nil)
	e.creds("stage", "previous")
	e.measures(prometheus, rotations, "1")
	exposed := exposedMetrics(e)
	queries := shippedDashboard(t).queries()
	if len(queries) < 20 {
		t.Fatalf("it asks only %v", queries)
	}
	for _, query := range queries {
		for _, name := range regexp.MustCompile(`smvm_[a-z_]+`).FindAllString(query, -1) {
			if !exposed[name] {
				t.Errorf("%s is asked for, and the engine has no such metric", name)
			}
		}
		e.answered(prometheus, query)
	}
	for name := range exposed {
		if !strings.Contains(strings.Join(queries, "\n"), strings.TrimSuffix(name, "_bucket")) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// exposedMetrics are the names of the series that the engine has.
func exposedMetrics(e *engine) map[string]bool {
	e.Helper()
	names := map[string]bool{}
	for line := range strings.Lines(string(e.raw().do(http.MethodGet, "metrics", nil).body)) {
		if name := regexp.MustCompile(`^smvm_[a-z_]+`).FindString(line); name != "" {
			names[name] = true
		}
	}
	return names
}

// mayBeEmpty recognizes the query that is answered only when something is wrong.
func mayBeEmpty(query string) bool { return strings.HasSuffix(query, "> 0") }

// answered waits until Prometheus, which needs two scrapes for a rate, answers with
// a series. An error fails the test.
func (e *engine) answered(prometheus, query string) {
	e.Helper()
	e.eventually("an answer to "+query, 30*time.Second, func(context.Context) error {
		var answer struct {
			Status, Error string
			Data          struct{ Result []json.RawMessage }
		}
		e.fetch(prometheus+"/api/v1/query?"+url.Values{"query": {query}}.Encode(), &answer)
		if answer.Status != "success" {
			e.Fatalf("%s: %s", query, answer.Error)
		}
		if len(answer.Data.Result) == 0 && !mayBeEmpty(query) {
			return errors.New("there is none")
		}
		return nil
	})
}
