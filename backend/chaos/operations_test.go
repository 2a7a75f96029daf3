package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5/pgconn"
)

// operation is how an operation goes.
type operation struct {
	// prepare makes ready what it needs, before any operation of the group begins; nil if
	// that is nothing.
	prepare func(context.Context, *cell) error
	// start is what leads to it, right before its point is armed; nil if that is nothing.
	start func(context.Context, *cell) error
	// request returns what to write, and where to; nil if the engine does it by itself.
	request func(c *cell, wait int) (path string, data map[string]any)
	// attend does, instead of a request, what the engine waits for before the point.
	attend func(context.Context, *cell) error
	// over returns an error until the operation has ended, beside that nothing is in
	// flight; nil if that is enough.
	over func(context.Context, *cell) error
	// check says what is wrong with how it has ended; nil if that is what is checked of all.
	check func(context.Context, *cell, values) error
	// mend takes back what prepare has configured; nil if that is nothing.
	mend func(context.Context, *cell) error
	// pauses is how long the engine may wait before it goes on.
	pauses time.Duration
	// local says that it asks no target.
	local bool
	// short is the point at which "make test" tries it, as far as it does not try all.
	short string
}

// operation returns how the row's goes.
func (r row) operation() operation {
	switch r.op {
	case opReader:
		return operation{prepare: readLate, start: rotate, attend: readInTime, over: endsWhenRead, mend: resetPolicy, pauses: twoLooks}
	case opSession:
		return operation{prepare: openSession, start: rotate, attend: closeInTime, over: endsWhenClosed, mend: resetPolicy, pauses: twoLooks}
	case opLimit:
		return operation{prepare: readNever, start: rotate, attend: leaveAlone, over: endsAtLimit, mend: resetPolicy, pauses: soonLimit}
	case opRetire:
		return operation{prepare: rotate, request: retirement, check: checkRetirement, short: "role-$.retire-intent.after"}
	case opForce:
		return operation{prepare: needPrevious, request: retirement, check: checkRetirement}
	case opUnforced:
		return operation{prepare: needPrevious, request: retirement, check: checkRefusal}
	case opAsk:
		return operation{prepare: prepareAsking, request: retirement, check: checkAsked, mend: forgetAsking, local: true}
	case opPresent:
		return operation{prepare: rotate, request: presentation, local: true, short: "retired-role-$.write.before"}
	case opLeaked:
		return operation{request: leak, local: true, short: "role-$.rotate-commit.after"}
	case opNote:
		return operation{prepare: rotate, request: note, check: checkNote, local: true, short: "role-$.other.after"}
	}
	return operation{request: change}
}

// isShort tells the rows that "make test" may try.
func (r row) isShort() bool {
	return changesAll(r) || r.op == opRoot || r.point == r.operation().short
}

// change gives a role or a connection a new version.
func change(c *cell, wait int) (string, map[string]any) {
	path, data := "rotate/"+c.app.id, map[string]any{"wait": wait}
	switch c.row.op {
	case opRollback:
		path = "rollback/" + c.app.id
	case opRevoke:
		data["revoke_previous"] = true
	case opRoot:
		path = "rotate-root/" + c.app.id
	}
	return path, data
}

// rotate rotates once more. After that nobody needs the previous values who has not read
// them by then, and those that were previous before are retired.
func rotate(ctx context.Context, c *cell) (err error) {
	c.rotated = time.Now().Truncate(time.Second)
	if c.previous, err = c.app.values(ctx); err != nil {
		return err
	}
	return c.app.rotateOnce(ctx)
}

// needPrevious has a reader need the previous values.
func needPrevious(ctx context.Context, c *cell) error {
	if err := rotate(ctx, c); err != nil {
		return err
	}
	return c.newReader(ctx, "stage", "previous")
}

// retirement ends the overlap by hand; only of the key if an application is asked about it.
func retirement(c *cell, wait int) (string, map[string]any) {
	data := map[string]any{"wait": wait, "force": c.row.op == opForce}
	if c.row.op == opAsk {
		data["secrets"] = c.app.id + "_api"
	}
	return "retire/" + c.app.id, data
}

// checkRetirement makes sure that readers get nothing that was retired.
func checkRetirement(ctx context.Context, c *cell, after values) error {
	if c.acknowledged() && (after.apiPrevious != "" || after.jwtPrevious != "") {
		return errors.New("readers still get what was retired")
	}
	return c.checkPreviousLogin(ctx)
}

// checkPreviousLogin makes sure that PostgreSQL refuses the previous login where the engine
// has given it up, unless the server lacks that.
func (c *cell) checkPreviousLogin(ctx context.Context) error {
	stages, err := c.app.previous(ctx)
	if err != nil || c.app.strategy != alternating || c.behind || stages[c.app.id+"_db"] != nil {
		return err
	}
	var refusal *pgconn.PgError
	switch err := c.app.use(ctx, c.previous.login); {
	case err == nil:
		return fmt.Errorf("PostgreSQL accepts the retired login of %s", c.previous.login.username)
	case !errors.As(err, &refusal):
		return fmt.Errorf("log in with the retired password of %s: %w", c.previous.login.username, err)
	}
	return nil
}

// checkRefusal makes sure that nobody was cut off who needs the previous values.
func checkRefusal(_ context.Context, c *cell, after values) error {
	switch {
	case c.acknowledged():
		return errors.New("values that a reader needs were retired without force")
	case after.apiPrevious != c.before.apiPrevious || after.jwtPrevious != c.before.jwtPrevious:
		return errors.New("a reader has lost the values that it needs")
	}
	return nil
}

// prepareAsking configures that an application is asked to refuse the previous key, soon
// after its overlap.
func prepareAsking(ctx context.Context, c *cell) error {
	if err := c.setPolicy(ctx, map[string]any{"refresh_interval": "1s"}); err != nil {
		return err
	}
	_, err := c.app.write(ctx, c.checkPath(), map[string]any{
		"phase": "retire", "url": c.app.outside.URL + refuses, "headers": c.app.expand("X-API-Key: {{$_api_previous_key}}"),
	})
	if err != nil {
		return err
	}
	return rotate(ctx, c)
}

// checkPath is that of the check that asks the application.
func (c *cell) checkPath() string { return "checks/" + c.app.id + "/refuses" }

// forgetAsking has nobody asked any more.
func forgetAsking(ctx context.Context, c *cell) error {
	client, err := c.app.client(ctx)
	if err != nil {
		return err
	}
	_, err = client.Logical().DeleteWithContext(ctx, mountPath+"/"+c.checkPath())
	return errors.Join(err, resetPolicy(ctx, c))
}

// checkAsked makes sure that the key was not destroyed before the application was asked
// to refuse it, and that status says so.
func checkAsked(ctx context.Context, c *cell, after values) error {
	switch {
	case after.apiPrevious != "" && c.acknowledged():
		return errors.New("readers still get the key whose overlap was ended")
	case after.apiPrevious != "":
		return nil
	case !c.app.outside.wasAsked(c.before.apiPrevious):
		return errors.New("the key was destroyed, and the application was not asked")
	}
	status, err := c.app.read(ctx, "status/"+c.app.id)
	if err != nil {
		return err
	}
	if found := fmt.Sprint(status["refusals"]); !strings.Contains(found, "outcome:refused") {
		return fmt.Errorf("the application has refused the key, and status says: %s", found)
	}
	return nil
}

// presentation presents a retired key, which nobody has done before.
func presentation(c *cell, _ int) (string, map[string]any) {
	return c.app.expand("api-key/$/$_api/verify"), map[string]any{"key": c.previous.apiPrevious}
}

// leak reports the current key as leaked.
func leak(c *cell, wait int) (string, map[string]any) {
	return "leaked", map[string]any{"value": c.before.apiKey, "respond": true, "wait": wait}
}

// responded is what was answered about the role whose value leaked; nothing if that was
// retired by then.
func responded(data map[string]any, err error) (map[string]any, error) {
	operations, _ := data["operations"].([]any)
	if err != nil || len(operations) == 0 {
		return nil, err
	}
	one, _ := operations[0].(map[string]any)
	if text, _ := one["error"].(string); text != "" {
		return nil, errors.New(text)
	}
	return one, nil
}

// note adds a note to the record of the latest rotation.
func note(c *cell, _ int) (string, map[string]any) {
	return c.app.latest() + "/note", map[string]any{"text": "seen"}
}

// latest is where the record of the latest rotation is.
func (a *app) latest() string { return "history/" + a.id + "/" + a.rotation }

// checkNote makes sure that there is one note, once it was answered: who was not, adds it
// again.
func checkNote(ctx context.Context, c *cell, _ values) error {
	if c.refusal != nil {
		path, data := note(c, 0)
		if _, err := c.app.write(ctx, path, data); err != nil {
			return fmt.Errorf("add the note again: %w", err)
		}
	}
	record, err := c.app.read(ctx, c.app.latest())
	if err != nil {
		return err
	}
	if notes, _ := record["notes"].([]any); len(notes) != 1 {
		return fmt.Errorf("the record has these notes: %v", notes)
	}
	return nil
}

// operate does what the cell's operation is, and keeps the answer.
func (c *cell) operate(ctx context.Context, client *api.Client, wait int) {
	defer close(c.done)
	op := c.row.operation()
	if op.attend != nil {
		c.refusal = op.attend(ctx, c)
		return
	}
	if c.row.point == "" {
		wait = 60
	}
	path, data := op.request(c, wait)
	secret, err := client.Logical().WriteWithContext(ctx, mountPath+"/"+path, data)
	if err == nil && secret == nil {
		return // a note is answered with nothing
	}
	c.answer, c.refusal = answer(secret, err)
	if c.row.op == opLeaked {
		c.answer, c.refusal = responded(c.answer, c.refusal)
	}
}
