package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// check uses everything that readers get after the fault, and then rotates once
// more. The error says what was lost.
func (c *cell) check(ctx context.Context, col column) error {
	after, err := c.app.values(ctx)
	if err != nil {
		return err
	}
	root, err := c.app.rootVersion(ctx)
	if err != nil {
		return err
	}
	problems := errors.Join(
		c.checkAnswer(col),
		c.checkVersion(after.version, root-c.given, col),
		c.checkLogins(ctx, after),
		c.checkKeys(after),
		c.checkAcknowledged(ctx),
		c.app.checkHistory(ctx),
		c.app.checkVerify(ctx),
		c.app.checkStages(ctx, after.version, c.row.op != opRoot && c.row.op != opLeaked && !col.alone),
		c.checkRetired(ctx),
		c.checkOperation(ctx, after),
	)
	return errors.Join(problems, c.app.checkNext(ctx, c.row.op == opRoot))
}

// checkOperation checks what holds for the operation only, and takes back what was
// configured for it.
func (c *cell) checkOperation(ctx context.Context, after values) (err error) {
	op := c.row.operation()
	if op.check != nil {
		err = op.check(ctx, c, after)
	}
	return errors.Join(err, c.do(ctx, op.mend))
}

// checkAnswer makes sure that the request was told what the fault asks for.
func (c *cell) checkAnswer(col column) error {
	if col.answers == nil {
		return nil
	}
	if err := col.answers(c); err != nil {
		return fmt.Errorf("%w; the answer was: %s", err, c.describe())
	}
	return nil
}

// checkVersion allows the version there was and the next one, and what the
// answer promised.
func (c *cell) checkVersion(role, root int64, col column) error {
	before, now := c.before.version, role
	if c.row.op == opRoot {
		if role != before {
			return fmt.Errorf("rotate-root changed the version of the role from %d to %d", before, role)
		}
		before, now = c.beforeRoot, root
	}
	must := int64(-1)
	switch {
	case c.row.op == opUndo && col.completes, c.unchanged(), !c.row.changes():
		must = before
	case c.acknowledged(), col.completes:
		must = before + 1
	}
	if now < before || now > before+max(col.most, 1) || must >= 0 && now != must {
		return fmt.Errorf("the version was %d and is %d; the answer was: %s", before, now, c.describe())
	}
	return nil
}

// acknowledged tells whether the request was told that all is done.
func (c *cell) acknowledged() bool { return c.refusal == nil && c.answer["status"] == "completed" }

// unchanged tells whether the request was told that nothing is.
func (c *cell) unchanged() bool {
	return c.refusal != nil && !c.reversed() && (strings.Contains(c.refusal.Error(), "rolled back") ||
		strings.Contains(c.refusal.Error(), "Nothing was changed"))
}

// reversed tells whether the request was told that what it had committed was taken back.
func (c *cell) reversed() bool {
	return c.refusal != nil && strings.Contains(c.refusal.Error(), "previous values again, as a new version")
}

// committed tells whether the values are new.
func (c *cell) committed(after values) bool { return after.version != c.before.version }

// ends reports whether the operation has replaced all values without an overlap.
func (c *cell) ends(after values) bool { return c.row.op == opRevoke && c.committed(after) }

// checkLogins logs in with what is current, and with what is in its overlap.
func (c *cell) checkLogins(ctx context.Context, after values) error {
	if err := c.app.use(ctx, after.login); err != nil {
		return fmt.Errorf("the current login, version %d: %w", after.version, err)
	}
	if c.app.strategy != alternating {
		return nil
	}
	if !c.ends(after) {
		if err := c.app.use(ctx, c.before.login); err != nil {
			return fmt.Errorf("the login of before, version %d of now %d: %w", c.before.version, after.version, err)
		}
	}
	previous, err := c.app.read(ctx, "creds/"+c.app.id, "stage", "previous")
	if err != nil {
		if c.row.mayRetire() {
			return nil // there is none
		}
		return fmt.Errorf("read the previous values: %w", err)
	}
	if err := c.app.use(ctx, c.app.parse(previous).login); err != nil {
		return fmt.Errorf("the previous login, which is in its overlap: %w", err)
	}
	return nil
}

// checkKeys verifies with the keys of now what was signed and handed out before.
func (c *cell) checkKeys(after values) error {
	token, err := after.token()
	if err == nil {
		err = after.accepts(token)
	}
	if err != nil || c.ends(after) {
		return err
	}
	if err := after.accepts(c.token); err != nil {
		return fmt.Errorf("signed with version %d: %w", c.before.version, err)
	}
	if c.row.op == opLeaked && c.committed(after) {
		return nil
	}
	if after.apiKey == "" || c.before.apiKey != after.apiKey && c.before.apiKey != after.apiPrevious {
		return errors.New("the API key of before is neither current nor previous")
	}
	return nil
}

// checkAcknowledged looks for what the answer promised in the history.
func (c *cell) checkAcknowledged(ctx context.Context) error {
	if !c.acknowledged() {
		return nil
	}
	path := fmt.Sprintf("history/%s/%v", c.app.id, c.answer["rotation_id"])
	if c.row.op == opRoot {
		path = fmt.Sprintf("connections/%s/history/%v", c.app.id, c.answer["rotation_id"])
	}
	record, err := c.app.read(ctx, path)
	if err != nil {
		return fmt.Errorf("acknowledged, but: %w", err)
	}
	if record["outcome"] != "completed" || number(record["version"]) != number(c.answer["version"]) {
		return fmt.Errorf("acknowledged as %v, recorded as %v", c.answer, record)
	}
	return nil
}

func (a *app) checkHistory(ctx context.Context) error {
	for _, path := range []string{"history/" + a.id, "connections/" + a.id + "/history"} {
		history, err := a.read(ctx, path)
		if err != nil {
			return err
		}
		if history["chain_valid"] != true {
			return fmt.Errorf("%s: %v", path, history["problem"])
		}
	}
	return nil
}

// checkVerify asks the engine to use its own values.
func (a *app) checkVerify(ctx context.Context) error {
	data, err := a.read(ctx, "verify/"+a.id)
	if err != nil {
		return err
	}
	if data["valid"] != true {
		return fmt.Errorf("verify: %v", data["secrets"])
	}
	return nil
}

// checkStages makes sure that all secrets are of one version, and none pending.
func (a *app) checkStages(ctx context.Context, version int64, together bool) error {
	status, err := a.read(ctx, "status/"+a.id)
	if err != nil {
		return err
	}
	secrets, _ := status["secrets"].(map[string]any)
	if len(secrets) != 3 {
		return fmt.Errorf("the secrets are %v", secrets)
	}
	for name, value := range secrets {
		stages, _ := value.(map[string]any)
		current, _ := stages["current"].(map[string]any)
		if stages["pending"] != nil || together && number(current["version"]) != version {
			return fmt.Errorf("of version %d, secret %s is %v", version, name, stages)
		}
	}
	return nil
}

// checkNext rotates again: what was recovered must not be in the way. A cluster on
// a busy machine may change its leader meanwhile, so that is tried until it works.
func (a *app) checkNext(ctx context.Context, root bool) error {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	return testenv.Eventually(ctx, "the next rotation", func(ctx context.Context) error {
		if root {
			if _, err := a.write(ctx, "rotate-root/"+a.id, map[string]any{"wait": 60}); err != nil {
				return fmt.Errorf("of the administrator: %w", err)
			}
		}
		return a.rotateOnce(ctx)
	})
}

// rotateOnce rotates, and uses what that makes.
func (a *app) rotateOnce(ctx context.Context) error {
	before, err := a.values(ctx)
	if err != nil {
		return err
	}
	answer, err := a.write(ctx, "rotate/"+a.id, map[string]any{"wait": 60})
	if err != nil {
		return err
	}
	after, err := a.values(ctx)
	if err != nil {
		return err
	}
	if answer["status"] != "completed" || after.version != before.version+1 {
		return fmt.Errorf("of version %d, answered %v and made version %d", before.version, answer, after.version)
	}
	a.rotation = fmt.Sprint(answer["rotation_id"])
	return a.use(ctx, after.login)
}
