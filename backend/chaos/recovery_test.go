package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// failOver waits until another node is active.
func (g *group) failOver(ctx context.Context) error {
	_, err := g.cluster.ActiveOtherThan(ctx, g.active)
	return err
}

// deposed waits until the node that was active has no plugin left, unless it has
// become active again.
func (g *group) deposed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return testenv.Eventually(ctx, "the end of the deposed plugin", func(ctx context.Context) error {
		now, err := g.cluster.Active(ctx)
		if err == nil && now != g.active && len(g.active.PluginPIDs()) > 0 {
			err = errors.New("it still runs")
		}
		return err
	})
}

// recover waits until nothing is in flight in any cell, and notes how long each
// took.
func (g *group) recover(ctx context.Context, struck time.Time) {
	over := time.Now()
	open, pauses := map[*cell]error{}, g.column.pauses
	for _, c := range g.cells {
		if c.harness == nil {
			open[c] = errors.New("never asked")
		}
		pauses = max(pauses, g.column.pauses+c.row.operation().pauses)
	}
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout+pauses)
	defer cancel()
	_ = testenv.Eventually(ctx, "recovery", func(ctx context.Context) error {
		client, err := g.client(ctx)
		if err != nil {
			return err
		}
		client.SetClientTimeout(5 * time.Second)
		for c := range open {
			err := g.well(ctx, client, c)
			if ctx.Err() == nil { // what is said after that says nothing
				open[c] = err
			}
			if err == nil {
				c.took, c.stuck = time.Since(struck), time.Since(over) > stuckTimeout+pauses
				delete(open, c)
			}
		}
		if len(open) > 0 {
			return errors.New("something is in flight")
		}
		return nil
	})
	for c, err := range open {
		c.stuck = true
		c.lost = fmt.Errorf("not recovered after %s: %w", recoverTimeout+pauses, err)
	}
}

// well returns an error until a cell has recovered.
func (g *group) well(ctx context.Context, client *api.Client, c *cell) error {
	if g.column.whole != nil {
		if err := g.column.whole(ctx, c); err != nil {
			return err
		}
	}
	if err := c.app.idle(ctx, client, c.row.op); err != nil {
		return err
	}
	return c.do(ctx, c.row.operation().over)
}

// untilEach polls until check holds for each cell, once.
func (g *group) untilEach(ctx context.Context, what string, check func(*cell, *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	done := map[*cell]bool{}
	return testenv.Eventually(ctx, what, func(ctx context.Context) error {
		client, err := g.client(ctx)
		if err != nil {
			return err
		}
		client.SetClientTimeout(5 * time.Second)
		for _, c := range g.cells {
			if c.harness == nil && !done[c] {
				e := check(c, client)
				done[c], err = e == nil, errors.Join(err, e)
			}
		}
		return err
	})
}

// recovery is the point at which the recovery of the cell's operation begins.
func (c *cell) recovery() string {
	switch {
	case c.row.op == opRoot:
		return c.app.expand("$_admin.test.before")
	case strings.Contains(c.row.point, "retire"):
		return c.app.expand("$_db.retire.before")
	}
	return c.app.expand("$_db.test.before")
}

// tried returns an error while something is in flight that recovery has not
// tried to end.
func (a *app) tried(ctx context.Context, client *api.Client, op string) error {
	for _, path := range a.places(op) {
		status, err := readWith(ctx, client, path)
		if err != nil {
			return err
		}
		if op, ok := status["in_flight"].(map[string]any); ok && (op["interrupted"] != true || op["kind"] != "retire") {
			return fmt.Errorf("%s: %v", path, op)
		}
	}
	return nil
}

// idle returns an error while something is in flight or unresolved, or has to be retired.
func (a *app) idle(ctx context.Context, client *api.Client, op string) error {
	for _, path := range a.places(op) {
		status, err := readWith(ctx, client, path)
		if err != nil {
			return err
		}
		if status["in_flight"] != nil {
			return fmt.Errorf("%s: %v, last error %v", path, status["in_flight"], status["last_error"])
		}
		if status["unresolved"] != nil {
			return fmt.Errorf("%s: unresolved: %v", path, status["unresolved"])
		}
		for name, stage := range previousOf(status) {
			if at, err := time.Parse(time.RFC3339, fmt.Sprint(stage["retire_time"])); err != nil || !at.After(time.Now()) {
				return fmt.Errorf("%s: the overlap of %s has ended, and its previous value is there: %v, last error %v", path, name, stage, status["last_error"])
			}
		}
	}
	return nil
}

// places is where the state of what an operation works on can be read.
func (a *app) places(op string) []string {
	if op == opRoot {
		return []string{"connections/" + a.id, "status/" + a.id}
	}
	return []string{"status/" + a.id}
}

func (a *app) rootVersion(ctx context.Context) (int64, error) {
	data, err := a.read(ctx, "connections/"+a.id)
	return number(data["version"]), err
}

// describe says what became of the cell's request.
func (c *cell) describe() string {
	switch {
	case c.refusal != nil:
		return strings.Join(strings.Fields(c.refusal.Error()), " ")
	case c.answer == nil:
		return "no answer"
	}
	return fmt.Sprintf("%v, version %v", c.answer["status"], c.answer["version"])
}
