package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// The overlaps of those who are waited for: as short as lets the point be armed before the
// engine looks, with no end that a test would live to see, or with one soon.
const (
	shortOverlap = 10 * time.Second
	noLimit      = time.Hour
	soonLimit    = 20 * time.Second
	// twoLooks is how long the engine takes to see that an overlap has to go on no longer.
	twoLooks = 30 * time.Second
	// lookBehind is how long after the end of an overlap a wait may begin.
	lookBehind = time.Minute
)

// setPolicy configures the role for the cell.
func (c *cell) setPolicy(ctx context.Context, policy map[string]any) error {
	_, err := c.app.write(ctx, "roles/"+c.app.id, policy)
	return err
}

// resetPolicy configures the role as it is by default.
func resetPolicy(ctx context.Context, c *cell) error {
	return c.setPolicy(ctx, map[string]any{"overlap": "12h", "refresh_interval": "5m", "overlap_limit": 0})
}

// shorten makes the overlap short, and has it go on until a limit if somebody needs the
// previous values.
func (c *cell) shorten(ctx context.Context, limit time.Duration) error {
	return c.setPolicy(ctx, map[string]any{
		"overlap": shortOverlap.String(), "refresh_interval": "1s", "overlap_limit": limit.String(),
	})
}

// newToken is that of somebody who has never read.
func (a *app) newToken(ctx context.Context) (string, error) {
	client, err := a.client(ctx)
	if err != nil {
		return "", err
	}
	a.readers++
	made, err := client.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{
		DisplayName: fmt.Sprintf("reader%d", a.readers), Policies: []string{"root"},
	})
	if err != nil {
		return "", err
	}
	return made.Auth.ClientToken, nil
}

// newReader has somebody read by a node that is not active, and returns when the engine has
// stored that: only then it is known after a failover.
func (c *cell) newReader(ctx context.Context, query ...string) (err error) {
	if c.reader, err = c.app.newToken(ctx); err != nil {
		return err
	}
	stored := c.app.expand("readers-role-$.write.after")
	if err := errors.Join(c.app.points.arm(stored), c.app.points.release(stored)); err != nil {
		return err
	}
	standbys, err := c.app.cluster.Standbys(ctx)
	if err != nil {
		return err
	}
	if len(standbys) == 0 {
		return errors.New("there is no standby to read from")
	}
	client, err := standbys[0].Client.Clone()
	if err != nil {
		return err
	}
	if err := c.app.readAs(ctx, client, c.reader, query...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	err = testenv.Eventually(ctx, "the reader to be stored", func(context.Context) error {
		if c.app.points.reached(stored) {
			return nil
		}
		return errors.New("it is not")
	})
	return errors.Join(err, c.app.points.clear(stored))
}

// readAs has whose token it is read.
func (a *app) readAs(ctx context.Context, client *api.Client, token string, query ...string) error {
	client.SetToken(token)
	_, err := readWith(ctx, client, "creds/"+a.id, query...)
	return err
}

// readCurrent has the cell's reader read the current values.
func (c *cell) readCurrent(ctx context.Context) error {
	client, err := c.app.client(ctx)
	if err != nil {
		return err
	}
	return c.app.readAs(ctx, client, c.reader)
}

// readLate has a reader need what is going to be previous.
func readLate(ctx context.Context, c *cell) error {
	return errors.Join(c.shorten(ctx, noLimit), c.newReader(ctx))
}

// readNever is the same with a limit.
func readNever(ctx context.Context, c *cell) error {
	return errors.Join(c.shorten(ctx, soonLimit), c.newReader(ctx))
}

// openSession has a session need it.
func openSession(ctx context.Context, c *cell) error {
	now, err := c.app.values(ctx)
	if err != nil {
		return err
	}
	if c.session, err = pgx.Connect(ctx, c.app.postgres.DSN(now.login.username, now.login.password, "postgres")); err != nil {
		return err
	}
	return c.shorten(ctx, noLimit)
}

// comesFirst reports whether who is waited for comes before the operation is at its point.
func (r row) comesFirst() bool {
	return strings.Contains(r.point, "wait-end") || strings.Contains(r.point, "retire")
}

// readInTime has the reader read, once it is waited for, if the point lies behind that.
// Readers are stored soon if there is another one.
func readInTime(ctx context.Context, c *cell) error {
	if !strings.HasPrefix(c.row.point, "readers-") {
		return c.comeInTime(ctx, c.readCurrent)
	}
	client, err := c.app.client(ctx)
	if err != nil {
		return err
	}
	token, err := c.app.newToken(ctx)
	if err != nil {
		return err
	}
	return c.app.readAs(ctx, client, token)
}

// closeInTime closes the session in the same way.
func closeInTime(ctx context.Context, c *cell) error { return c.comeInTime(ctx, c.session.Close) }

func leaveAlone(context.Context, *cell) error { return nil }

func (c *cell) comeInTime(ctx context.Context, come func(context.Context) error) error {
	if !c.row.comesFirst() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := testenv.Eventually(ctx, "the overlap to wait", c.waits); err != nil {
		return err
	}
	c.came = true
	return come(ctx)
}

// waited is the secret whose overlap goes on.
func (c *cell) waited() string {
	if c.row.op == opSession {
		return c.app.id + "_db"
	}
	return c.app.id + "_api"
}

// errEnded says that an overlap does not wait, because it has ended.
var errEnded = errors.New("the overlap has ended")

// waits returns an error unless the overlap goes on because somebody needs the value.
func (c *cell) waits(ctx context.Context) error {
	stages, err := c.app.previous(ctx)
	if err != nil {
		return err
	}
	stage := stages[c.waited()]
	switch names, _ := stage["waits_for"].([]any); {
	case stage == nil:
		return errEnded
	case len(names) == 0 || stage["valid"] != true:
		return fmt.Errorf("the previous value is %v", stage)
	}
	return nil
}

// previous returns what status tells of the previous value of each secret that has one.
func (a *app) previous(ctx context.Context) (map[string]map[string]any, error) {
	status, err := a.read(ctx, "status/"+a.id)
	if err != nil {
		return nil, err
	}
	return previousOf(status), nil
}

func previousOf(status map[string]any) map[string]map[string]any {
	found := map[string]map[string]any{}
	secrets, _ := status["secrets"].(map[string]any)
	for name, one := range secrets {
		stages, _ := one.(map[string]any)
		if previous, ok := stages["previous"].(map[string]any); ok {
			found[name] = previous
		}
	}
	return found
}

// ended returns an error as long as the role has a previous value. Those read on who read
// it, as applications do: what they read last may be forgotten with the process.
func (c *cell) ended(ctx context.Context) error {
	_, err := c.app.values(ctx)
	if err == nil && c.reader != "" && c.came {
		err = c.readCurrent(ctx)
	}
	if err != nil {
		return err
	}
	stages, err := c.app.previous(ctx)
	if err == nil && len(stages) > 0 {
		err = fmt.Errorf("the previous values are %v", stages)
	}
	return err
}

// endsWhenRead makes sure that the overlap goes on until the reader reads, if it has not,
// and then ends.
func endsWhenRead(ctx context.Context, c *cell) error { return c.endsAfter(ctx, c.readCurrent) }

// endsWhenClosed is the same for a session. One that the fault has ended is not waited for.
func endsWhenClosed(ctx context.Context, c *cell) error {
	if !c.came && c.session.Ping(ctx) != nil {
		c.came = true
	}
	return c.endsAfter(ctx, c.session.Close)
}

func (c *cell) endsAfter(ctx context.Context, come func(context.Context) error) error {
	if c.came {
		return c.ended(ctx)
	}
	switch err := c.waits(ctx); {
	case errors.Is(err, errEnded) && time.Since(c.rotated) > shortOverlap+lookBehind && !strings.Contains(c.row.point, "wait.after"):
		c.came = true // the fault lasted for so long that the engine did not begin to wait
		return c.ended(ctx)
	case errors.Is(err, errEnded):
		c.lost, c.came = errors.New("the overlap has ended before who needs the value has come"), true
		return nil
	case err != nil:
		return err
	}
	if err := c.usesPrevious(ctx); err != nil {
		return fmt.Errorf("while the overlap waits: %w", err)
	}
	if err := come(ctx); err != nil {
		return err
	}
	c.came = true
	return c.ended(ctx)
}

// usesPrevious uses the previous values, which are waited for.
func (c *cell) usesPrevious(ctx context.Context) error {
	if c.row.op == opReader {
		now, err := c.app.values(ctx)
		if err != nil || now.apiPrevious != c.previous.apiKey || now.jwtPrevious != c.previous.jwtKey {
			return errors.Join(errors.New("readers do not get the previous keys"), err)
		}
	}
	if c.app.strategy != alternating {
		return nil
	}
	return c.app.use(ctx, c.previous.login)
}

// endsAtLimit makes sure that an overlap that has begun to wait ends at its limit.
func endsAtLimit(ctx context.Context, c *cell) error {
	err := c.ended(ctx)
	if early := soonLimit - time.Since(c.rotated); err == nil && early > 0 {
		c.lost = fmt.Errorf("an overlap that waits has ended %s before its limit", early)
	}
	return err
}
