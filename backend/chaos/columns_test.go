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

// column is a fault.
type column struct {
	name string
	// wait is how many seconds the operations' requests wait for the end.
	wait int
	// applies tells in which rows the fault can happen; nil means in all.
	applies func(row) bool
	// prepare makes ready what the fault needs, before the operations begin; nil if
	// that is nothing.
	prepare func(context.Context, *group) error
	// strike makes the fault happen and puts right what recovery needs.
	strike func(context.Context, *group) error
	// mend makes the cluster whole again, after recovery; nil if it is.
	mend func(context.Context, *group) error
	// whole returns an error until a cell has what it needs beside that nothing is in
	// flight; nil if that is nothing.
	whole func(context.Context, *cell) error
	// answers says what is wrong with what a cell's request was told; nil if any
	// answer will do.
	answers func(*cell) error
	// most is how many versions an operation makes at most; 0 means 1.
	most int64
	// pauses is how long the engine may wait, as docs/operations.md says, before it tries again.
	pauses time.Duration
	// destined says that roles have a destination.
	destined bool
	// completes says that the fault may not keep an operation from its end.
	completes bool
	// alone says that a secret which can't be put back may go forward alone.
	alone bool
	// slow keeps the column out of the cut that "make test" runs.
	slow bool
	// postgres says that the fault is one of PostgreSQL.
	postgres bool
}

// columns lists all of them. Those that cost the cluster most come first.
func columns() []column {
	return []column{
		{name: "plugin killed", wait: 2, strike: killPlugin},
		{name: "killed again", wait: 2, strike: killAgain},
		{name: "killed without target", wait: 2, strike: killWithoutTarget},
		{name: "node killed", wait: 2, strike: killNode, mend: startNode},
		{name: "node paused", wait: 2, strike: pauseNode, mend: settle},
		{name: "paused for long", wait: 2, strike: pauseForLong, mend: continueNode},
		{name: "step-down", wait: 2, strike: stepDown, mend: settle},
		{name: "seal", wait: 2, strike: seal, mend: unseal},
		{name: "mount reloaded", wait: 2, strike: reload(mountPath)},
		{name: "sibling reloaded", wait: 2, strike: reload(siblingPath)},
		{name: "client gone", wait: 30, strike: clientGone, completes: true, applies: isAskedFor},
		{name: "write refused", wait: 30, strike: refuseWrite, applies: isWrite},
		{name: "PostgreSQL killed", wait: 30, postgres: true, strike: killPostgres},
		{name: "PostgreSQL stalled", wait: 1, postgres: true, strike: stallPostgres},
		{name: "stalled for long", wait: 15, postgres: true, strike: stallForLong, slow: true},
		{name: "answer cut", wait: 30, postgres: true, prepare: forgetLogins, strike: cutAnswer, applies: sendsSQL},
		{name: "refused", wait: 30, postgres: true, strike: refuseChanges, applies: isRefusable, alone: true},
		{name: "read-only", wait: 30, postgres: true, strike: readOnly, mend: readWrite, completes: true, applies: unanswered},
		{name: "terminated", wait: 30, postgres: true, strike: terminate},
		{name: "promoted replica", wait: 30, postgres: true, prepare: stream, strike: promote, alone: true},
		{name: "replica behind", wait: 30, postgres: true, prepare: fallBehind, strike: promote, whole: remembered, mend: reportDrift, alone: true, slow: true},
		{name: "user shut out", wait: 30, strike: alterUsers("NOLOGIN"), mend: alterUsers("LOGIN"), applies: isLookedAt, answers: refusedBefore},
		{name: "user limited to 0", wait: 30, strike: alterUsers("CONNECTION LIMIT 0"), mend: alterUsers("CONNECTION LIMIT -1"), applies: isLookedAt, answers: refusedBefore},
		{name: "look waits", wait: 30, strike: lockUsers, completes: true, applies: isLookedAt},
		{name: "destination down", wait: 3, prepare: publish, strike: cutLibrary, whole: published, mend: unpublish, applies: changesAll, answers: held, destined: true},
		{name: "destination denies", wait: 30, prepare: publish, strike: denyLibrary, whole: published, mend: unpublish, applies: changesAll, answers: denied, most: 2, pauses: 2 * time.Minute, destined: true, slow: true},
	}
}

// takes tells whether the fault can happen in a row.
func (col column) takes(r row) bool {
	return (r.op != opPublish || col.destined) && (!r.operation().local || !col.postgres) && (col.applies == nil || col.applies(r))
}

func unanswered(r row) bool { return r.point != "" }

// isAskedFor tells the points at which somebody waits for an answer.
func isAskedFor(r row) bool { return unanswered(r) && r.operation().attend == nil }

// isRefusable leaves out the administrator's own password, which it may always change.
func isRefusable(r row) bool { return r.op != opRoot }

func sendsSQL(r row) bool { return r.next != "" }

// isWrite tells the points at which the engine writes to storage.
func isWrite(r row) bool {
	for _, write := range []string{"role-$.", "connection-$.", "-fence.", ".write."} {
		if strings.Contains(r.point, write) {
			return true
		}
	}
	return false
}

func killPlugin(_ context.Context, g *group) error { return g.active.KillPlugins() }

// killAgain kills the plugin, and kills it once more in the middle of recovery.
func killAgain(ctx context.Context, g *group) error {
	err := errors.Join(g.active.KillPlugins(), g.disarm())
	for _, c := range g.cells {
		err = errors.Join(err, g.points.arm(c.recovery()))
	}
	err = errors.Join(err, g.untilEach(ctx, "recovery to begin", func(c *cell, client *api.Client) error {
		if g.points.reached(c.recovery()) {
			return nil
		}
		return c.app.idle(ctx, client, c.row.op)
	}))
	for _, c := range g.cells {
		err = errors.Join(err, g.points.clear(c.recovery()))
	}
	return errors.Join(err, g.active.KillPlugins())
}

// killWithoutTarget kills the plugin while there is no PostgreSQL to ask, and
// starts that when recovery has found out.
func killWithoutTarget(ctx context.Context, g *group) error {
	err := errors.Join(g.postgres.Kill(), g.active.KillPlugins(), g.disarm())
	err = errors.Join(err, g.untilEach(ctx, "recovery to try", func(c *cell, client *api.Client) error {
		return c.app.tried(ctx, client, c.row.op)
	}))
	return errors.Join(err, g.postgres.Start(ctx))
}

func killNode(ctx context.Context, g *group) error {
	return errors.Join(g.active.Kill(), g.failOver(ctx))
}

func startNode(ctx context.Context, g *group) error {
	return errors.Join(g.active.Start(ctx), g.cluster.Settle(ctx))
}

// pauseNode lets the deposed node go on as soon as another one is active, and so
// while that recovers.
func pauseNode(ctx context.Context, g *group) error {
	return errors.Join(g.active.Pause(), g.failOver(ctx), g.release(), g.active.Continue())
}

// pauseForLong lets it go on when the other has recovered everything.
func pauseForLong(ctx context.Context, g *group) error {
	return errors.Join(g.active.Pause(), g.failOver(ctx))
}

func continueNode(ctx context.Context, g *group) error {
	return errors.Join(g.release(), g.active.Continue(), settle(ctx, g))
}

// settle waits until the cluster is whole and the deposed node's plugin is gone:
// what it was about to do has been done, or not.
func settle(ctx context.Context, g *group) error {
	return errors.Join(g.cluster.Settle(ctx), g.deposed(ctx))
}

// stepDown lets the plugin go on at the moment it is told to end.
func stepDown(ctx context.Context, g *group) error {
	done := make(chan error, 1)
	go func() { done <- g.release() }()
	_, err := g.cluster.StepDown(ctx)
	return errors.Join(err, <-done, g.failOver(ctx))
}

// seal lets the plugin go on at the moment it is told to end, which it has to do
// at once, whether raft ends or not.
func seal(ctx context.Context, g *group) error {
	done, sealed := make(chan error, 1), make(chan error, 1)
	go func() { done <- g.release() }()
	go func() {
		hung, err := g.active.SealOrKill(ctx)
		if hung {
			g.hung++
		}
		sealed <- err
	}()
	prompt, stop := context.WithTimeout(ctx, 30*time.Second) // half of what raft is given
	defer stop()
	err := testenv.Eventually(prompt, "the end of the sealed node's plugin", func(context.Context) error {
		if pids := g.active.PluginPIDs(); len(pids) > 0 {
			return fmt.Errorf("%v still run", pids)
		}
		return nil
	})
	return errors.Join(err, <-sealed, <-done, g.failOver(ctx))
}

func unseal(ctx context.Context, g *group) error {
	return errors.Join(g.active.Return(ctx), g.cluster.Settle(ctx))
}

// reload reloads one of the mounts, while the operations stand at their points.
func reload(path string) func(context.Context, *group) error {
	return func(ctx context.Context, g *group) error {
		return errors.Join(g.reload(ctx, path), g.release())
	}
}

func (g *group) reload(ctx context.Context, path string) error {
	_, err := g.active.Client.Sys().ReloadPluginWithContext(ctx, &api.ReloadPluginInput{Mounts: []string{path}})
	return err
}

// forgetLogins reloads the mount, which counts the logins that have failed on purpose, and
// after some leaves them out: then there is no answer to one that could be cut.
func forgetLogins(ctx context.Context, g *group) error { return g.reload(ctx, mountPath) }

// clientGone cancels the requests, and lets the operations go on when Vault's
// answers, if any, would reach nobody.
func clientGone(_ context.Context, g *group) error {
	for _, c := range g.cells {
		c.cancel()
	}
	g.answered()
	return g.release()
}

// refuseWrite makes the write at each point fail, also when it is repeated.
func refuseWrite(_ context.Context, g *group) error {
	for _, c := range g.cells {
		if err := g.points.fail(c.point()); err != nil {
			return err
		}
	}
	err := g.release()
	g.answered()
	return err
}

// refuseChanges takes the administrators' rights away while the operations stand at
// their points, and gives them back when all have been answered.
func refuseChanges(ctx context.Context, g *group) error {
	err := errors.Join(g.everyApp(ctx, revokeSQL), g.release())
	g.answered()
	return errors.Join(err, g.everyApp(ctx, grantSQL))
}

const (
	revokeSQL = `
DO $do$ BEGIN
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE 'REVOKE ADMIN OPTION FOR $_a, $_b FROM $_admin';
  ELSE
    EXECUTE 'ALTER ROLE $_admin NOCREATEROLE';
  END IF;
END $do$;`
	grantSQL = `
DO $do$ BEGIN
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE 'GRANT $_a, $_b TO $_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE';
  ELSE
    EXECUTE 'ALTER ROLE $_admin CREATEROLE';
  END IF;
END $do$;`
)

// everyApp runs SQL as superuser for the app of each cell.
func (g *group) everyApp(ctx context.Context, sql string) error {
	var err error
	for _, c := range g.cells {
		err = errors.Join(err, g.postgres.Exec(ctx, c.app.expand(sql)))
	}
	return err
}

// readOnly makes every session begin read-only, those of the administrators too.
func readOnly(ctx context.Context, g *group) error {
	err := errors.Join(
		g.postgres.Exec(ctx, "ALTER SYSTEM SET default_transaction_read_only = on"),
		g.postgres.Exec(ctx, "SELECT pg_reload_conf()"),
		g.release())
	g.answered()
	return err
}

func readWrite(ctx context.Context, g *group) error {
	return errors.Join(
		g.postgres.Exec(ctx, "ALTER SYSTEM RESET default_transaction_read_only"),
		g.postgres.Exec(ctx, "SELECT pg_reload_conf()"))
}

// terminate ends every session of the administrators, over and over until all
// operations have been answered.
func terminate(ctx context.Context, g *group) error {
	err := g.release()
	answered := make(chan struct{})
	go func() { defer close(answered); g.answered() }()
	// Not to synchronise: the fault goes on for five seconds at most, as those of an
	// operator who ends sessions would.
	for limit := time.After(5 * time.Second); ; {
		err = errors.Join(err, g.everyApp(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '$_admin'"))
		select {
		case <-answered:
			return err
		case <-limit:
			<-answered
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func killPostgres(ctx context.Context, g *group) error {
	err := errors.Join(g.postgres.Kill(), g.release())
	g.answered()
	return errors.Join(err, g.postgres.Start(ctx))
}

func stallPostgres(_ context.Context, g *group) error {
	err := errors.Join(g.postgres.Stall(), g.release())
	g.answered()
	return errors.Join(err, g.postgres.Continue())
}

// stallForLong stalls for longer than the engine waits for a statement.
func stallForLong(_ context.Context, g *group) error {
	err := errors.Join(g.postgres.Stall(), g.release())
	timer := time.NewTimer(13 * time.Second) // not to synchronise: it is the fault
	defer timer.Stop()
	g.answered()
	<-timer.C
	return errors.Join(err, g.postgres.Continue())
}

// cutAnswer lets PostgreSQL do what comes next, and cuts the connection instead
// of passing on the answer.
func cutAnswer(ctx context.Context, g *group) error {
	var armed []*testenv.Trigger
	for _, c := range g.cells {
		armed = append(armed, c.app.proxy.CutAfter(c.row.next))
	}
	err := g.release()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for i, trigger := range armed {
		select {
		case <-trigger.Fired():
		case <-ctx.Done():
			trigger.Disarm()
			g.cells[i].harness = errors.New("what was to be cut was never sent")
		}
	}
	g.answered()
	return err
}
