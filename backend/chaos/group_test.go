package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// How long things may take: to come to a point, and to recover from a fault.
const (
	reachTimeout   = 90 * time.Second
	recoverTimeout = 90 * time.Second
	// stuckTimeout is how long an operation may be in flight when its fault is over.
	stuckTimeout = 60 * time.Second
)

// cell is one operation of one app that a fault strikes at one point.
type cell struct {
	app    *app
	row    row
	before values
	// previous is what was current before the operation's own rotation, if it has one, and
	// rotated when that was.
	previous values
	rotated  time.Time
	// reader is the token of a reader, and session one of the previous login, if the
	// operation has one; came says that it does not need the previous values any more.
	reader  string
	session *pgx.Conn
	came    bool
	// beforeRoot is the version of the connection.
	beforeRoot int64
	token      string

	cancel  context.CancelFunc
	done    chan struct{} // closed when the request has been answered
	answer  map[string]any
	refusal error

	required  bool          // the role's destination is
	behind    bool          // the server is going to lack what the operation commits
	forgotten string        // what the server has of the administrator's password, if not the latest
	given     int64         // versions of the connection that somebody wrote
	took      time.Duration // from the fault until nothing was in flight
	stuck     bool          // that was too long after the fault was over
	lost      error
	harness   error // the cell says nothing about the engine
}

// point is where the cell's operation stops; empty if it does not.
func (c *cell) point() string { return c.app.expand(c.row.point) }

// refused is the point at which an operation that is to be undone fails.
func (c *cell) refused() string { return c.app.expand("$_db.test.before") }

// group is the cells that one fault strikes at the same time.
type group struct {
	*lab
	column column
	cells  []*cell
	active *testenv.Vault // when the fault struck
}

// run lets the operations come to their points, makes the fault happen, waits
// for recovery, and uses what readers get then.
func (g *group) run(ctx context.Context) error {
	var err error
	if g.active, err = g.cluster.Active(ctx); err != nil {
		return err
	}
	if g.column.prepare != nil {
		if err := g.column.prepare(ctx, g); err != nil {
			return fmt.Errorf("prepare %s: %w", g.column.name, err)
		}
	}
	parallel(atOnce, g.cells, func(c *cell) { c.harness = c.do(ctx, c.row.operation().prepare) })
	parallel(atOnce, g.cells, func(c *cell) {
		if c.harness == nil {
			c.harness = g.begin(ctx, c)
		}
	})
	g.await(ctx)
	struck := time.Now()
	err = g.column.strike(ctx, g)
	err = errors.Join(err, g.disarm())
	g.recover(ctx, struck)
	if g.column.mend != nil {
		err = errors.Join(err, g.column.mend(ctx, g))
	}
	g.done()
	err = errors.Join(err, g.clear())
	g.each(func(c *cell) {
		if c.lost == nil && c.harness == nil {
			c.lost = c.check(ctx, g.column)
		}
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", g.column.name, err)
	}
	return err
}

// each does something for all cells, a few at a time.
func (g *group) each(do func(*cell)) { parallel(aFew, g.cells, do) }

// aFew is how many of what costs the processor are done at the same time.
const aFew = 6

// parallel does something for all, for most of them at the same time.
func parallel[T any](most int, all []T, do func(T)) {
	var running sync.WaitGroup
	slots := make(chan struct{}, most)
	for _, one := range all {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			do(one)
		})
	}
	running.Wait()
}

// do does what an operation has, if it has it.
func (c *cell) do(ctx context.Context, what func(context.Context, *cell) error) error {
	if what == nil {
		return nil
	}
	return what(ctx, c)
}

// begin notes what readers get, and sends the operation.
func (g *group) begin(ctx context.Context, c *cell) error {
	var err error
	if err := c.do(ctx, c.row.operation().start); err != nil {
		return err
	}
	if c.before, err = c.app.values(ctx); err != nil {
		return err
	}
	if c.beforeRoot, err = c.app.rootVersion(ctx); err != nil {
		return err
	}
	if c.token, err = c.before.token(); err != nil {
		return err
	}
	if c.row.op == opUndo {
		err = g.points.fail(c.refused())
	}
	if c.row.point != "" {
		err = errors.Join(err, g.points.arm(c.point()))
	}
	if err != nil {
		return err
	}
	client, err := g.client(ctx)
	if err != nil {
		return err
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.done = make(chan struct{})
	go c.operate(ctx, client, g.column.wait)
	return nil
}

// await returns when every operation stands at its point.
func (g *group) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	for _, c := range g.cells {
		if c.harness != nil {
			continue
		}
		c.harness = testenv.Eventually(ctx, "point "+c.point(), func(context.Context) error {
			if c.row.point == "" {
				select {
				case <-c.done:
					return nil
				default:
				}
			}
			if c.row.point != "" && g.points.reached(c.point()) {
				return nil
			}
			return errors.New("not reached")
		})
	}
}

// release lets every operation go on.
func (g *group) release() error {
	var err error
	for _, c := range g.cells {
		if c.row.point != "" {
			err = errors.Join(err, g.points.release(c.point()))
		}
	}
	return err
}

// disarm ends the failures that the points make. Who stands at one stays there.
func (g *group) disarm() error {
	var err error
	for _, c := range g.cells {
		for _, point := range []string{c.point(), c.refused()} {
			err = errors.Join(err, g.points.clear(point+".fail"))
		}
	}
	return err
}

// clear removes what is left of the points.
func (g *group) clear() error {
	var err error
	for _, c := range g.cells {
		if c.row.point != "" {
			err = errors.Join(err, g.points.clear(c.point()))
		}
		c.cancelled()
	}
	return err
}

func (c *cell) cancelled() {
	if c.cancel != nil {
		c.cancel()
	}
}

// answered waits until every request has an answer, or nobody waits for one. What nobody
// has asked for has some time instead.
func (g *group) answered() {
	g.done()
	if slices.ContainsFunc(g.cells, func(c *cell) bool { return c.row.operation().attend != nil }) {
		time.Sleep(unasked) // not to synchronise: faults last as long
	}
}

// unasked is how long faults last at least for what nobody has asked for.
const unasked = 3 * time.Second

// done waits until nobody waits for an answer.
func (g *group) done() {
	for _, c := range g.cells {
		if c.done != nil {
			<-c.done
		}
	}
}
