package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// stream starts a replica that has all that the primary commits.
func stream(ctx context.Context, g *group) error {
	var err error
	if g.replica, err = testenv.StartReplica(ctx, g.postgres); err != nil {
		return err
	}
	return g.replica.CatchUp(ctx, g.postgres)
}

// fallBehind starts one that has nothing of what the operations are going to commit.
func fallBehind(ctx context.Context, g *group) error {
	if err := stream(ctx, g); err != nil {
		return err
	}
	for _, c := range g.cells {
		c.behind = true
	}
	return errors.Join(g.replica.Disconnect(ctx), g.configure(ctx, "on_drift", "repair"))
}

func reportDrift(ctx context.Context, g *group) error { return g.configure(ctx, "on_drift", "report") }

// promote kills the primary while the operations stand at their points, lets them go on,
// and has the replica take over the address. One that streams has all of it before.
func promote(ctx context.Context, g *group) error {
	var err error
	if g.column.whole == nil {
		err = g.replica.CatchUp(ctx, g.postgres)
	}
	err = errors.Join(err, g.findForgotten(ctx), g.postgres.Kill(), g.release())
	dead := g.postgres
	err = errors.Join(err, g.replica.TakeOver(ctx, dead))
	g.postgres, g.replica = g.replica, nil
	g.answered()
	return errors.Join(err, dead.Stop())
}

// findForgotten notes of which administrators the replica has another password.
func (g *group) findForgotten(ctx context.Context) error {
	for _, c := range g.cells {
		latest, err := c.app.stored(ctx, g.postgres)
		if err != nil {
			return err
		}
		has, err := c.app.stored(ctx, g.replica)
		if err != nil {
			return err
		}
		if has != latest {
			c.forgotten = has
		}
	}
	return nil
}

// stored is what a server has of the administrator's password.
func (a *app) stored(ctx context.Context, server *testenv.Postgres) (verifier string, err error) {
	err = server.Ask(ctx, a.expand("SELECT rolpassword FROM pg_authid WHERE rolname = '$_admin'"), &verifier)
	return verifier, err
}

// remembered returns an error until what readers are given works again where some of it
// was forgotten. What an administrator needs is done as a person would.
func remembered(ctx context.Context, c *cell) error {
	if c.forgotten != "" {
		if err := c.readmit(ctx); err != nil {
			return err
		}
	}
	now, err := c.app.values(ctx)
	if err != nil {
		return err
	}
	return c.app.use(ctx, now.login)
}

// readmit returns an error until the server has the administrator's password again, or
// that of before is the one in force. It does what the advice says, if there is any.
func (c *cell) readmit(ctx context.Context) error {
	connection, err := c.app.read(ctx, "connections/"+c.app.id)
	if err != nil {
		return err
	}
	version := number(connection["version"])
	if has, err := c.app.stored(ctx, c.app.postgres); err != nil || has != c.forgotten {
		return err
	}
	if version == c.beforeRoot && connection["in_flight"] == nil {
		return nil
	}
	advice := fmt.Sprint(connection["advice"])
	if version == c.beforeRoot || !strings.Contains(advice, "connections/"+c.app.id) {
		return fmt.Errorf("of the administrator's password, version %d of before %d, it is said: %s", version, c.beforeRoot, advice)
	}
	const sql, password = "ALTER ROLE $_admin PASSWORD 'again-$-0123456789'", "again-$-0123456789"
	if err := c.app.postgres.Exec(ctx, c.app.expand(sql)); err != nil {
		return err
	}
	_, err = c.app.write(ctx, "connections/"+c.app.id, map[string]any{"username": c.app.id + "_admin", "password": c.app.expand(password)})
	if err != nil {
		return errors.Join(err, c.app.postgres.Exec(ctx, "ALTER ROLE "+c.app.id+"_admin PASSWORD '"+c.forgotten+"'"))
	}
	after, err := c.app.rootVersion(ctx)
	c.given = after - version
	return err
}
