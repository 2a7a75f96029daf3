package acceptance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

const (
	// cleanAfter is how long after a promotion nothing may be left to be told or done.
	cleanAfter = time.Minute
	// servedAfter is how long after a promotion that forgot the password in use the
	// service may be without it.
	servedAfter = 45 * time.Second
	// pace makes some 70 requests a second.
	pace = 50 * time.Millisecond
)

// promotion is a service under load on a primary, and a replica that takes over.
type promotion struct {
	*engine
	replica  *testenv.Postgres
	service  *service
	requests *traffic
	// promoted is when the replica had become the primary, logged how much the service
	// had printed by then.
	promoted time.Time
	logged   int
	// points is where the plugin is told to stop, rotationID the rotation that does.
	points, rotationID string
}

// TestPromotionUnderLoad has the primary die and its replica take over in a rotation of
// two users while a service works: at the step that sets the password, between its commit
// and its arrival at the replica, and when the service uses it already. Nobody does
// anything, and everything works at the new primary.
func TestPromotionUnderLoad(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// point is where the rotation stands when the primary dies; empty if it is over.
		point string
		// lags says that the new primary never gets the password.
		lags bool
		// late says that the rotation goes on before there is a new primary.
		late bool
		// outcomes are those that the rotation may have.
		outcomes string
	}{
		"set":              {point: "db.set.before", outcomes: "completed"},
		"set late":         {point: "db.set.before", late: true, outcomes: "failed, rolled_back"},
		"forgotten":        {point: "db.test.before", lags: true, outcomes: "failed, rolled_back"},
		"forgotten late":   {point: "db.test.before", lags: true, late: true, outcomes: "failed, rolled_back"},
		"forgotten in use": {lags: true, outcomes: "completed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPromotion(t)
			if test.lags {
				p.do(p.replica.CatchUp(t.Context(), p.postgres))
				p.do(p.replica.Disconnect(t.Context()))
			}
			if test.point == "" {
				p.rotates()
			} else {
				p.scheduled(test.point)
			}
			p.promote(test.point, test.late)
			p.recovers(test.point == "")
			p.tells(test.outcomes)
			p.goesOn()
		})
	}
}

// newPromotion has a service on a pair of servers, after a rotation.
func newPromotion(t *testing.T) *promotion {
	t.Helper()
	plugin, err := testenv.BuildPlugin(t.Context(), testenv.BuildOptions{Race: true, Tags: "failpoints"})
	if err != nil {
		t.Fatal(err)
	}
	p := &promotion{points: t.TempDir()}
	v, pg := testenv.NewVault(t, testenv.VaultOptions{}), testenv.NewPostgres(t, testenv.PostgresOptions{Settings: talkative})
	if err := v.RegisterPluginWithEnv(t.Context(), plugin, "SMVM_BREAKPOINTS="+p.points); err != nil {
		t.Fatal(err)
	}
	inspectAfter(t, v, pg)
	p.engine = mount(t, v, pg)
	p.write("config", map[string]any{"on_drift": "repair", "probe_interval": "60s"})
	p.served("alternating_users", map[string]any{"rotation_period": "24h", "overlap": "20s", "refresh_interval": "1s"})
	p.replica = testenv.NewReplica(t, pg)
	inspectAfter(t, v, p.replica)
	connection := p.connection("admin-" + p.prefix + "-0123456789")
	url := text(connection, "connection_url")
	connection["connection_url"] = strings.Replace(url, pg.Address(), pg.Address()+","+p.replica.Address(), 1) + "&target_session_attrs=read-write"
	p.write("connections/main", connection)
	p.eventually("readers to be told of both servers", time.Minute, func(context.Context) error {
		if at := p.creds()["db_port"]; at != fmt.Sprintf("%d,%d", pg.Port, p.replica.Port) {
			return fmt.Errorf("they are told %v", at)
		}
		return nil
	})
	p.service = p.approleService()
	p.rotates()
	return p
}

func (p *promotion) do(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// rotates rotates, and returns when the service uses what that made.
func (p *promotion) rotates() {
	p.Helper()
	answer := p.write("rotate", nil)
	p.rotationID = text(answer, "rotation_id")
	p.reaches(p.service, number(p.T, answer, "version"), time.Minute)
	if p.requests != nil {
		p.requests.follow(p.creds())
	}
}

// scheduled returns when a rotation by the schedule, which tries again what fails, stands
// at a point.
func (p *promotion) scheduled(point string) {
	p.Helper()
	p.do(os.WriteFile(filepath.Join(p.points, point), nil, 0o600))
	p.write("roles/default", map[string]any{"rotation_period": "60s", "retry_interval": "1s"})
	p.eventually("the rotation to come to "+point, 2*time.Minute, func(context.Context) error {
		_, err := os.Stat(filepath.Join(p.points, point+".reached"))
		return err
	})
	operation, _ := p.read("status")["in_flight"].(map[string]any)
	p.rotationID = text(operation, "rotation_id")
}

// promote ends the primary, while the service has requests to answer, and promotes the
// replica. The rotation goes on after that or, late, before, and has failed by then.
func (p *promotion) promote(point string, late bool) {
	p.Helper()
	p.requests = p.beginAt(p.service, pace)
	p.answered(time.Now(), 10)
	goOn := func() { p.do(os.WriteFile(filepath.Join(p.points, point+".go"), nil, 0o600)) }
	killed := time.Now()
	p.do(p.postgres.Kill())
	if late {
		goOn()
		p.eventually("the rotation to fail", time.Minute, func(context.Context) error {
			if status := p.read("status"); status["last_error"] == "" {
				return fmt.Errorf("in flight is %v", status["in_flight"])
			}
			return nil
		})
	}
	p.do(p.replica.Promote(p.Context()))
	p.promoted, p.postgres = time.Now(), p.replica
	p.logged = len(p.printed())
	if point != "" && !late {
		goOn()
	}
	p.Logf("there was no primary for %s", p.promoted.Sub(killed).Round(time.Millisecond))
}

func (p *promotion) printed() string {
	p.Helper()
	log, err := os.ReadFile(p.service.LogPath)
	p.do(err)
	return string(log)
}

// recovers waits until all is well, and says how long that took and whom it hurt: nobody,
// unless the service uses what the new primary does not know.
func (p *promotion) recovers(forgotten bool) {
	p.Helper()
	p.eventually("nothing to be left to do", time.Until(p.promoted.Add(cleanAfter)), func(context.Context) error { return p.unwell() })
	clean, creds := time.Now(), p.creds()
	p.reaches(p.service, number(p.T, creds, "version"), time.Minute)
	p.requests.follow(creds)
	p.answered(clean, 100)
	out, last := p.outage()
	refused := p.refusals()
	p.Logf("after the promotion: served again after %s, last failure after %s, %d requests failed because of credentials, all is well after %s",
		out.Round(time.Millisecond), last.Round(time.Millisecond), refused, clean.Sub(p.promoted).Round(time.Millisecond))
	if limit := servedAfter; out > limit || last > limit {
		p.Errorf("that is too late: %s at most", limit)
	}
	if !forgotten && refused > 0 {
		p.Error("the new primary refused what it knew")
	}
}

// unwell returns an error as long as something is under way, or is to be done, or
// readers are given what does not work.
func (p *promotion) unwell() error {
	status := p.read("status")
	for name, want := range map[string]any{"in_flight": nil, "unresolved": nil, "advice": "", "last_error": "", "needs_attention": false} {
		if status[name] != want {
			return fmt.Errorf("%s is %v", name, status[name])
		}
	}
	if connection := p.read("connections/main"); connection["advice"] != "" {
		return fmt.Errorf("the advice about the connection is %v", connection["advice"])
	}
	if err := p.login(p.creds()); err != nil {
		return fmt.Errorf("the current login: %w", err)
	}
	if previous := p.previous(); previous != nil {
		if err := p.login(previous); err != nil {
			return fmt.Errorf("the previous login: %w", err)
		}
	}
	return nil
}

// previous reads the previous values; nil if there are none.
func (p *promotion) previous() map[string]any {
	answer, err := p.client.Logical().ReadWithDataWithContext(p.Context(), p.path+"/creds", map[string][]string{"stage": {"previous"}})
	if err != nil || answer == nil {
		return nil
	}
	return answer.Data
}

// answered waits until that many requests were answered that began after a time.
func (p *promotion) answered(since time.Time, want int) {
	p.Helper()
	p.eventually("requests to be answered", 30*time.Second, func(context.Context) error {
		got := 0
		for _, a := range p.requests.all() {
			if a.began.After(since) && a.err == nil {
				got++
			}
		}
		if got < want {
			return fmt.Errorf("there are %d", got)
		}
		return nil
	})
}

// outage returns how long after the promotion the first request was answered, and the
// last one was not.
func (p *promotion) outage() (out, last time.Duration) {
	for _, a := range p.requests.all() {
		after := a.ended.Sub(p.promoted)
		switch {
		case a.err != nil:
			last = max(last, after)
		case after > 0 && out == 0:
			out = after
		}
	}
	return out, last
}

// refusals counts the requests that failed after the promotion because PostgreSQL
// refused the login, or the service a key or a token.
func (p *promotion) refusals() (count int) {
	p.Helper()
	for line := range strings.Lines(p.printed()[p.logged:]) {
		if strings.Contains(line, "query database") && strings.Contains(line, "SQLSTATE 28") {
			count++
		}
	}
	for _, a := range p.requests.all() {
		if a.ended.After(p.promoted) && a.err != nil && strings.Contains(a.err.Error(), "answers 401") {
			count++
		}
	}
	return count
}

// tells looks for the end of the rotation among the records. What has not completed the
// schedule has tried again.
func (p *promotion) tells(outcomes string) {
	p.Helper()
	outcome, after := "", []string{}
	for _, record := range p.history() {
		switch {
		case record["rotation_id"] == p.rotationID:
			outcome = text(record, "outcome")
		case outcome != "":
			after = append(after, fmt.Sprint(record["kind"], " by ", record["trigger"], " ", record["outcome"]))
		}
	}
	p.Logf("the rotation is recorded as %s, followed by %q", outcome, after)
	if outcome == "" || !strings.Contains(outcomes, outcome) {
		p.Errorf("it is not %s", outcomes)
	}
	if outcome != "completed" && !slices.Contains(after, "rotate by schedule completed") {
		p.Error("it was not tried again")
	}
}

// goesOn rotates again, and ends the load.
func (p *promotion) goesOn() {
	p.Helper()
	well := time.Now()
	p.rotates()
	p.requests.stop()
	p.requests.done.Wait()
	failed := 0
	for _, a := range p.requests.all() {
		if a.err != nil {
			failed++
			if a.ended.After(well) {
				p.Errorf("failed in the end: %v", a.err)
			}
		}
	}
	p.Logf("%d requests, %d failed", len(p.requests.all()), failed)
	if err := p.unwell(); err != nil {
		p.Error(err)
	}
}
