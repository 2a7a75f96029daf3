package backend

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/wrapping"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The bounds of how long a request waits for the operation it starts. It holds
// up sealing and step-down for as long.
const (
	maxWait   = 60 * time.Second
	maxReason = 1024
	// maxUnasked is the longest wait that a request did not ask for: the vault client
	// gives up after 60 s.
	maxUnasked = 55 * time.Second
)

// actor is who makes a request, as Vault knows them.
func actor(req *logical.Request) rotation.Actor {
	return rotation.Actor{DisplayName: audit.Visible(req.DisplayName), EntityID: req.EntityID}
}

// newRequest asks for an operation on behalf of whoever made req.
func (b *backend) newRequest(req *logical.Request, kind rotation.Kind) *rotation.Request {
	return &rotation.Request{Kind: kind, Trigger: rotation.TriggerManual, Actor: actor(req), RequestID: req.ID}
}

// newRecord describes a change that needs no transaction.
func (b *backend) newRecord(req *logical.Request, kind rotation.Kind, secret, typeName string) *rotation.Record {
	op := b.engine.NewOperation(kind, rotation.TriggerManual)
	op.Actor, op.RequestID, op.Secrets = actor(req), req.ID, []string{secret}
	return &rotation.Record{
		Operation: op, Outcome: rotation.OutcomeCompleted,
		Results: []rotation.SecretResult{{Secret: secret, Type: typeName}},
	}
}

// configureRecord describes a change of what people write, whose fields the change adds.
func (b *backend) configureRecord(req *logical.Request) *rotation.Record {
	return b.writtenRecord(req, rotation.KindConfigure)
}

// writtenRecord describes what people write, which is about no secret.
func (b *backend) writtenRecord(req *logical.Request, kind rotation.Kind) *rotation.Record {
	rec := b.newRecord(req, kind, "", "")
	rec.Secrets, rec.Results = []string{}, []rotation.SecretResult{}
	return rec
}

// startAndWait starts an operation and waits for its end, for at most wait; after
// that it goes on without the request.
func (b *backend) startAndWait(ctx context.Context, r *rotation.Role, request rotation.Request, wait time.Duration) (*logical.Response, error) {
	return b.startAndWaitLonger(ctx, r, request, wait, 0)
}

// startAndWaitLonger is startAndWait, with more time for the operation to begin, in which
// its commit counts too; not for what follows that.
func (b *backend) startAndWaitLonger(ctx context.Context, r *rotation.Role, request rotation.Request, wait, longer time.Duration) (*logical.Response, error) {
	following, stop := context.WithTimeout(ctx, wait)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, wait+longer)
	defer cancel()
	request.Waits = true
	run, err := r.Start(ctx, request)
	if err != nil {
		return nil, err
	}
	if !run.Wait(ctx) {
		return show(run, b.inProgress(r, run)), nil
	}
	rec, err := run.Result()
	if err != nil {
		return nil, err
	}
	outcome, err := r.AwaitPostCommit(following, rec.ID)
	switch {
	case outcome != nil:
		rec.Issues = append(rec.Issues, outcome.Issues...)
	case err != nil:
		return nil, err
	}
	resp := operationResponse(r, rec)
	if f := r.Snapshot().PostCommit; f != nil && f.ID == rec.ID {
		resp.Data["status"] = string(rotation.OutcomeInProgress)
		resp.AddWarning(fmt.Sprintf("version %d is committed and in use; the steps after the commit are not finished: %s. Read status/%s", rec.Version, describeTasks(f.Tasks), r.Name))
	}
	return show(run, notShown(r, run, rec, resp)), nil
}

// namesNoRole adds to the answer to an operation on the default role which role that was,
// if the request named none and there are others.
func (b *backend) namesNoRole(req *logical.Request, d *framework.FieldData, resp *logical.Response, err error) (*logical.Response, error) {
	if resp == nil || d.Get("role").(string) != "" {
		return resp, err
	}
	var others []string
	for _, r := range b.registry.Loaded() {
		if !roles.IsConnection(r) && r.Name != defaultRole && !r.Snapshot().Deleted {
			others = append(others, r.Name)
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		resp.AddWarning(fmt.Sprintf("the request named no role, so this was about role %s. There are others: %s. To name one, write its name at the end of the path, such as %s/%s", defaultRole, roles.Sample(others), strings.Trim(req.Path, "/"), others[0]))
	}
	return resp, err
}

// describeTasks puts what follows a commit into a line.
func describeTasks(tasks []rotation.Task) string {
	described := make([]string, 0, len(tasks))
	for _, t := range tasks {
		state := "open"
		switch {
		case t.Failed:
			state = "failed"
		case t.Dropped:
			state = "undecided"
		case t.Done:
			state = "done"
		}
		described = append(described, fmt.Sprintf("%s is %s (%s)", t.Name, state, cmp.Or(t.Detail, "not begun")))
	}
	return strings.Join(described, ", ")
}

// inProgress is the answer when the operation takes longer than the wait.
func (b *backend) inProgress(r *rotation.Role, run *rotation.Run) *logical.Response {
	op := run.Operation()
	resp := &logical.Response{Data: map[string]any{
		"rotation_id":    op.ID,
		roles.Subject(r): r.Name,
		"status":         string(rotation.OutcomeInProgress),
		"version":        r.Snapshot().Version,
	}}
	where := "it has not reached its first step"
	if p := run.Progress(); p != nil {
		where = fmt.Sprintf("it is at step %s of secret %s", p.Step, p.Secret)
	}
	status, history := "status/"+r.Name, "history/"+r.Name
	if roles.IsConnection(r) {
		status, history = "connections/"+r.Name, "connections/"+r.Name+"/history"
	}
	resp.AddWarning(fmt.Sprintf("the %s goes on without this request: %s. Read %s, and %s/%s when it has ended", op.Kind, where, status, history, op.ID))
	return resp
}

// operationResponse is the answer for an operation that completed. The steps are
// flat, as in creds, because the vault command shows nothing else legibly.
func operationResponse(r *rotation.Role, rec rotation.Record) *logical.Response {
	resp := &logical.Response{Data: map[string]any{
		"rotation_id":    rec.ID,
		roles.Subject(r): r.Name,
		"status":         string(rec.Outcome),
		"version":        rec.Version,
	}}
	for _, result := range rec.Results {
		resp.Data[result.Secret+"_steps"] = describeSteps(result.Steps)
	}
	for _, issue := range rec.Issues {
		resp.AddWarning(issue)
	}
	return resp
}

// describeSteps puts the steps of one secret into a line.
func describeSteps(steps []rotation.Step) string {
	described := make([]string, 0, len(steps))
	for _, step := range steps {
		text := fmt.Sprintf("%s %dms", step.Name, step.DurationMS)
		if !step.OK {
			text += " failed"
		}
		described = append(described, text)
	}
	return strings.Join(described, ", ")
}

// operationAnswer declares what operationResponse answers, but for the steps of
// each secret, which come under <secret>_steps.
func operationAnswer(subject string) map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"rotation_id": field(framework.TypeString, "Id of the operation, as in the history and in the log."),
		subject:       field(framework.TypeString, "Name of the "+subject+"."),
		"status":      field(framework.TypeString, "completed, or in_progress if the operation took longer than wait."),
		"version":     field(framework.TypeInt, "Current version of the "+subject+"."),
	}
}

// takeWait reads how long the request is ready to wait.
func takeWait(d *framework.FieldData) (time.Duration, error) {
	wait := time.Duration(d.Get("wait").(int)) * time.Second
	if wait < 0 || wait > maxWait {
		return 0, rotation.Invalid("wait", "is %s; it must be from 0s to %s", rotation.Span(wait), rotation.Span(maxWait))
	}
	return wait, nil
}

// takeReason reads why the operation is done, for the history.
func takeReason(d *framework.FieldData) (string, error) {
	return takeLine(d, "reason", maxReason)
}

// revokePreviousField declares the field by which rotate and rollback leave out the overlap.
func revokePreviousField() *framework.FieldSchema {
	return field(framework.TypeBool, "For emergencies: the engine retires the replaced values at once, without an overlap.")
}

// operationFields declares the fields that rotate, rollback and retire share.
func operationFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"role":    field(framework.TypeString, "Name of the role; default if you leave it out of the path."),
		"secrets": field(framework.TypeCommaStringSlice, "Names of the secrets to work on; all if left out."),
		"reason":  field(framework.TypeString, "Why you make this request, in one line, for the history. Do not put secrets into it."),
		"wait":    {Type: framework.TypeDurationSecond, Default: 5, Description: "How long the request waits for the operation to end, at most 60 s. If the operation takes longer, the response has status=in_progress, and the operation goes on."},
	}
}

// takeOperation reads the fields that rotate, rollback and retire share.
func (b *backend) takeOperation(req *logical.Request, d *framework.FieldData, kind rotation.Kind) (*rotation.Request, time.Duration, error) {
	wait, err := takeWait(d)
	if err != nil {
		return nil, 0, err
	}
	request := b.newRequest(req, kind)
	if request.Reason, err = takeReason(d); err != nil {
		return nil, 0, err
	}
	request.Secrets = d.Get("secrets").([]string)
	return request, wait, nil
}

// wrapTTL is how long an answer that shows a key can be unwrapped; a client that
// asks for less gets less.
const wrapTTL = time.Hour

// show adds to an answer the values that are not kept, under the names that creds
// would have for them. Such an answer is always wrapped, so that it is not left in
// the scrollback or the log of whoever asked, and can be passed on unread.
func show(run *rotation.Run, resp *logical.Response) *logical.Response {
	for name, v := range run.Shown() {
		for field, value := range v {
			resp.Data[name+"_"+field] = value
		}
		resp.WrapInfo = &wrapping.ResponseWrapInfo{TTL: wrapTTL}
	}
	return resp
}

// notShown warns of values that an earlier delivery of the request was given.
func notShown(r *rotation.Role, run *rotation.Run, rec rotation.Record, resp *logical.Response) *logical.Response {
	if rec.Kind != rotation.KindCreate && rec.Kind != rotation.KindRotate || run.Shown() != nil {
		return resp
	}
	s := r.Snapshot()
	for _, name := range shownOnce(s, rec.Secrets) {
		switch secret := s.Secrets[name]; {
		case secret.Current.Unreceived:
			resp.AddWarning(unreceived(r, secret))
		case secret.Previous == nil:
			resp.AddWarning(fmt.Sprintf("secret %s: the answer to an earlier delivery of this request had the new key, and the engine does not store it. If you lost that answer, write rotate/%s with secrets=%s", name, r.Name, name))
		default:
			resp.AddWarning(fmt.Sprintf("secret %s: the answer to an earlier delivery of this request had the new key, and the engine does not store it. If you lost that answer, first write rollback/%s with secrets=%s, which makes the previous key current again, and then rotate: without the rollback, a rotation ends the overlap of the key that is in use", name, r.Name, name))
		}
	}
	return resp
}

// unreceived says what to do about a key that is current and that nobody was given.
func unreceived(r *rotation.Role, s *rotation.Secret) string {
	text := fmt.Sprintf("secret %s: nobody was given version %d of the key, and the engine does not store it. To get another one, write rotate/%s with secrets=%s", s.Name, s.Current.Version, r.Name, s.Name)
	if s.Previous == nil {
		return text
	}
	return fmt.Sprintf("%s: the key before it then has an overlap again. To make that one current again, write rollback/%s with secrets=%s. Without either, the engine retires it at %v", text, r.Name, s.Name, timestamp(s.Previous.RetireTime))
}

// shownOnce lists those of the named secrets whose values are not kept; of all, if
// none is named.
func shownOnce(s *rotation.Snapshot, names []string) []string {
	if len(names) == 0 {
		names = s.Names()
	}
	var found []string
	for _, name := range names {
		if secret := s.Secrets[name]; secret != nil && secret.ShownOnce {
			found = append(found, name)
		}
	}
	return found
}

// checkReceiver refuses a rotation that would make values for nobody.
func checkReceiver(r *rotation.Role, names []string, wait time.Duration) error {
	if hidden := shownOnce(r.Snapshot(), names); wait == 0 && len(hidden) > 0 {
		return rotation.Invalid("wait", "is 0, so nobody would get the new key of %s, which the engine does not store (hash_only); give a longer wait, or leave the secret out of secrets", roles.Sample(hidden))
	}
	return nil
}
