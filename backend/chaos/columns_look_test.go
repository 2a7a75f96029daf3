package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"
)

// isLookedAt tells the points before the look at a user.
func isLookedAt(r row) bool {
	return changesAll(r) && (strings.HasSuffix(r.point, ".look.before") || strings.HasSuffix(r.point, ".create.before"))
}

// alterUsers changes the users of all cells, and lets the operations go on.
func alterUsers(how string) func(context.Context, *group) error {
	return func(ctx context.Context, g *group) error {
		err := errors.Join(g.everyApp(ctx, "ALTER ROLE $_a "+how+"; ALTER ROLE $_b "+how), g.release())
		g.answered()
		return err
	}
}

// refusedBefore makes sure that the request was refused with what is to be mended, and
// that nothing was changed.
func refusedBefore(c *cell) error {
	var refusal *api.ResponseError
	if !errors.As(c.refusal, &refusal) || refusal.StatusCode != http.StatusUnprocessableEntity || !c.unchanged() {
		return errors.New("it was not refused with a 422 that says that nothing was changed")
	}
	if !strings.Contains(c.refusal.Error(), "ALTER ROLE") {
		return errors.New("it was not told what to run")
	}
	return nil
}

// lockUsers makes whoever looks at users wait, for less than the engine is ready to.
func lockUsers(ctx context.Context, g *group) error {
	conn, err := pgx.Connect(ctx, g.postgres.SuperuserDSN())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing depends on it
	if _, err = conn.Exec(ctx, "BEGIN; LOCK TABLE pg_catalog.pg_authid IN ACCESS EXCLUSIVE MODE"); err != nil {
		return fmt.Errorf("lock users: %w", err)
	}
	err = g.release()
	timer := time.NewTimer(time.Second) // not to synchronise: it is the fault
	defer timer.Stop()
	<-timer.C
	_, end := conn.Exec(ctx, "ROLLBACK")
	g.answered()
	return errors.Join(err, end)
}
