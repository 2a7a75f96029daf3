package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/doctor"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

func (b *backend) pathRotate() *framework.Path {
	fields := operationFields()
	fields["wait"].Description += " If you leave wait out, the request also waits for checks with phase=before, up to 55 s in all, so that the response says if they refuse the rotation."
	fields["revoke_previous"] = revokePreviousField()
	fields["dry_run"] = field(framework.TypeBool, "Whether to try the rotation without changing anything, and report. Like verify, this tests everything that a rotation depends on.")
	return &framework.Path{
		Pattern:      optionalRole("rotate"),
		DisplayAttrs: attributes("rotate", "default-role|role"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathRotateWrite, "Give the secrets of a role new values, as one transaction.", rotateAnswer()),
		},
		HelpSynopsis:    "Rotate the secrets of a role.",
		HelpDescription: oneLine(rotateHelp),
	}
}

// rotateAnswer declares what a rotation answers, and a dry run beyond that.
func rotateAnswer() map[string]*framework.FieldSchema {
	fields := operationAnswer("role")
	for name, f := range inspectionFields() {
		f.Description = "Only with dry_run. " + f.Description
		fields[name] = f
	}
	fields["status"] = field(framework.TypeString, "completed; in_progress, if the operation took longer than wait; or dry_run.")
	fields["plan"] = field(framework.TypeStringSlice, "With dry_run: the steps of a rotation, in order.")
	return fields
}

// pathRotateWrite corresponds to UPDATE on rotate and rotate/:role.
func (b *backend) pathRotateWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	request, wait, err := b.takeOperation(req, d, rotation.KindRotate)
	if err != nil {
		return nil, err
	}
	request.RevokePrevious = d.Get("revoke_previous").(bool)
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	if d.Get("dry_run").(bool) {
		if err := r.Free(); err != nil {
			return nil, err
		}
		resp, err := b.dryRun(ctx, r, request.Secrets)
		return b.namesNoRole(req, d, resp, err)
	}
	if err := checkReceiver(r, request.Secrets, wait); err != nil {
		return nil, err
	}
	resp, err := b.startAndWaitLonger(ctx, r, *request, wait, waitLonger(r, d, wait))
	return b.namesNoRole(req, d, resp, err)
}

// waitLonger is for how long a rotation whose request does not say how long to wait waits
// for the checks before it. Without that, the answer to one that they refuse would be that
// it has not begun yet.
func waitLonger(r *rotation.Role, d *framework.FieldData, wait time.Duration) time.Duration {
	if _, asked := d.GetOk("wait"); asked || d.Get("revoke_previous").(bool) { // before which no check is run
		return 0
	}
	return min(check.LongestBefore(r.Snapshot().State), maxUnasked-wait)
}

// dryRun makes values as a rotation would, and tries them at their targets in a
// transaction that is rolled back. What verify looks at, it looks at too.
func (b *backend) dryRun(ctx context.Context, r *rotation.Role, names []string) (*logical.Response, error) {
	s := r.Snapshot()
	names, err := s.Selected(r.Name, names)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	resp, users := &logical.Response{}, map[string]string{}
	steps := map[string]any{}
	var problems error
	for _, name := range names {
		material, findings, err := b.tryOut(ctx, *s.Secrets[name])
		users[name], steps[name+"_steps"] = material["username"], "would pass"
		if err != nil {
			problems = errors.Join(problems, fmt.Errorf("secret %s: %w", name, err))
		}
		if warning := s.Unseen(name, b.now()); warning != "" {
			resp.AddWarning(warning)
		}
		for _, finding := range findings {
			resp.AddWarning(fmt.Sprintf("secret %s: %s", name, finding))
		}
	}
	if problems != nil {
		if err := r.Same(s); err != nil {
			return nil, err // which may be why
		}
		return nil, preflightError(fmt.Errorf("a rotation would fail: %w", problems))
	}
	found, plan := b.doctor.Inspect(ctx, r, names), b.doctor.Plan(ctx, r, names, users)
	resp.Data = inspection(found)
	maps.Copy(resp.Data, steps)
	resp.Data["role"], resp.Data["status"], resp.Data["version"] = r.Name, "dry_run", s.Version
	resp.Data["plan"], resp.Data["report"] = plan, found.Text()+doctor.PlanText(plan)
	return resp, nil
}

func (b *backend) tryOut(ctx context.Context, s rotation.Secret) (rotation.Material, []string, error) {
	t := b.types[s.Type]
	material, err := t.Create(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	findings, err := secret.Try(ctx, t, s, material)
	return material, findings, err
}

const rotateHelp = `
Gives new values to all secrets of the role, or to those named in secrets, as one
transaction. The engine inspects the targets, makes the new values, sets them at the
targets, tests each of them by using it (for example, it logs in), and commits them
together. If anything fails, it sets the current values again and commits nothing.
Applications read the old values until the commit and the new ones after it. The old
values stay valid for the overlap. If another operation of the role is under way, the
response is 409. If the rotation began and failed, the response is 422 and says what is
true now. For api_key secrets with hash_only, the response contains the new key as
<secret>_key, and is response-wrapped; with wait=0, such a rotation does not begin.`

func (b *backend) pathRollback() *framework.Path {
	fields := operationFields()
	fields["revoke_previous"] = revokePreviousField()
	fields["if_version"] = field(framework.TypeInt, "Version to undo, for programs that test new values. Only the secrets that got new values with it are rolled back. If the role has another version by now, or if no rotation made this one, the response is 400 and nothing changes.")
	return &framework.Path{
		Pattern:      optionalRole("rollback"),
		DisplayAttrs: attributes("roll-back", "default-role|role"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathRollbackWrite, "Make the previous values current again, as a new version.", operationAnswer("role")),
		},
		HelpSynopsis:    "Make the previous values of a role current again.",
		HelpDescription: oneLine(rollbackHelp),
	}
}

// pathRollbackWrite corresponds to UPDATE on rollback and rollback/:role.
func (b *backend) pathRollbackWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	request, wait, err := b.takeOperation(req, d, rotation.KindRollback)
	if err != nil {
		return nil, err
	}
	request.RevokePrevious = d.Get("revoke_previous").(bool)
	if version, ok := d.GetOk("if_version"); ok {
		if request.IfVersion = version.(int); request.IfVersion < 1 {
			return nil, rotation.Invalid("if_version", "is %d; it must be a version of the role, such as 7", request.IfVersion)
		}
	}
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	resp, err := b.startAndWait(ctx, r, *request, wait)
	return b.namesNoRole(req, d, resp, err)
}

const rollbackHelp = `
Makes the previous values of the role's secrets, or of those named in secrets, current
again, as one transaction. The engine first sets them at their targets and tests each of
them by using it. The result is a new version, so applications notice it. The replaced
values become the previous ones and stay valid for the overlap; with
revoke_previous=true the engine retires them at once. There are previous values only
until their overlap ends. A second rollback makes the values current again that the first
one replaced.`

func (b *backend) pathRetire() *framework.Path {
	fields := operationFields()
	fields["secrets"] = field(framework.TypeCommaStringSlice, "Names of the secrets whose previous values to retire; all that have one if left out.")
	fields["force"] = field(framework.TypeBool, "Whether to retire previous values that somebody still needs. Whoever does is cut off, and the record names them.")
	return &framework.Path{
		Pattern:      optionalRole("retire"),
		DisplayAttrs: attributes("retire", "default-role|role"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathRetireWrite, "End the overlap of a role: retire its previous values now.", operationAnswer("role")),
		},
		HelpSynopsis:    "End the overlap of a role now.",
		HelpDescription: oneLine(retireHelp),
	}
}

// pathRetireWrite corresponds to UPDATE on retire and retire/:role.
func (b *backend) pathRetireWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	request, wait, err := b.takeOperation(req, d, rotation.KindRetire)
	if err != nil {
		return nil, err
	}
	request.Force = d.Get("force").(bool)
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	resp, err := b.startAndWait(ctx, r, *request, wait)
	return b.namesNoRole(req, d, resp, err)
}

const retireHelp = `
Retires the previous values of the role's secrets, or of those named in secrets, before
their overlap ends: the engine makes each unusable at its target, tests that the target
refuses it, and destroys it. For values that a check with phase=retire sends, it does
this one refresh_interval later; creds no longer returns them in the meantime. First the
engine finds out who still needs these values: readers that have not read the current ones,
those who have used a previous key or token lately, open sessions of a previous login,
and checks after the rotation whose failure would roll it back. If there is anybody, or
if a server does not say how many sessions are open, the response is 400, names them,
and nothing changes; with force=true, the engine retires the values all the same. The
response is also 400 if a secret named in secrets, or every secret of the role, has no
previous value.`

func (b *backend) pathRotateRoot() *framework.Path {
	fields := operationFields()
	for _, name := range []string{"role", "secrets"} {
		delete(fields, name)
	}
	fields["name"] = nameField("Name of the connection.")
	return &framework.Path{
		Pattern:      "rotate-root/" + framework.GenericNameRegex("name"),
		DisplayAttrs: attributes("rotate", "root-credentials"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathRotateRootWrite, "Give the administrator of a connection a new password.", operationAnswer("connection")),
		},
		HelpSynopsis:    "Rotate the password of the administrator of a connection.",
		HelpDescription: oneLine(rotateRootHelp),
	}
}

// pathRotateRootWrite corresponds to UPDATE on rotate-root/:name.
func (b *backend) pathRotateRootWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	wait, err := takeWait(d)
	if err != nil {
		return nil, err
	}
	r, err := b.connections.Find(ctx, d.Get("name").(string))
	if err != nil {
		return nil, err
	}
	if err := b.connections.CheckAdmin(ctx, *r.Snapshot().Secrets[connections.Admin]); err != nil {
		return nil, err
	}
	request := b.newRequest(req, rotation.KindRotate)
	if request.Reason, err = takeReason(d); err != nil {
		return nil, err
	}
	request.RevokePrevious = true
	return b.startAndWait(ctx, r, *request, wait)
}

const rotateRootHelp = `
Gives the administrator of a connection a new password that only the engine knows. The
engine stores the new password, sets it at the server, and tests it by a login. Only
then does it use the new password for its work. After a crash, it finds out which of the
two passwords the server accepts. At the end it tests that the server refuses the old
password. Then nobody but the engine can log in as the administrator.`
