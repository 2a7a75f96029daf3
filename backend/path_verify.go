package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/drift"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/tripwire"
)

// verifyTimeout bounds how long a request asks targets.
const verifyTimeout = 20 * time.Second

func (b *backend) pathVerify() *framework.Path {
	repair := mutation(b.pathVerifyWrite, "Repair: set the stored values again at targets that refuse them.", operationAnswer("role"))
	repair.DisplayAttrs = attributes("repair", "default-role|role") // whose answer is another one
	return &framework.Path{
		Pattern:      optionalRole("verify"),
		DisplayAttrs: attributes("verify", "default-role|role"),
		Fields:       repairFields(),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   operation(b.pathVerifyRead, "Test every value by using it, test everything that a rotation depends on, and report.", verifyFields()),
			logical.UpdateOperation: repair,
		},
		HelpSynopsis:    "Test that the values of a role work, that wrong ones do not, and that the role is ready to rotate.",
		HelpDescription: oneLine(verifyHelp),
	}
}

// repairFields are those of operations, and the one that asks for a repair.
func repairFields() map[string]*framework.FieldSchema {
	fields := operationFields()
	fields["secrets"].Query = true // reading takes them too
	fields["repair"] = field(framework.TypeBool, "Must be true in a write. The engine then sets the stored values again at targets that refuse them.")
	return fields
}

func verifyFields() map[string]*framework.FieldSchema {
	fields := inspectionFields()
	fields["role"] = field(framework.TypeString, "Name of the role.")
	fields["version"] = field(framework.TypeInt, "Version that was verified.")
	fields["valid"] = field(framework.TypeBool, "true if every value works, and the targets refuse wrong ones.")
	fields["secrets"] = field(framework.TypeMap, "For each secret: valid, proven (what the engine has proved) and error.")
	fields["advice"] = field(framework.TypeString, "What to do if a target refuses a stored value; empty otherwise.")
	return fields
}

// pathVerifyRead corresponds to READ on verify and verify/:role.
func (b *backend) pathVerifyRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	s := r.Snapshot()
	names, err := s.Selected(r.Name, d.Get("secrets").([]string))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	var asked sync.WaitGroup
	var found preflight.Report
	asked.Go(func() { found = b.doctor.Inspect(ctx, r, names) })
	results := b.verifySecrets(ctx, s, names)
	asked.Wait()
	valid, secrets, refused, owners := true, map[string]any{}, []string{}, []string{}
	for i, name := range names {
		valid = valid && results[i]["valid"].(bool)
		secrets[name] = results[i]
		var fix preflight.Fix
		if owned := ownedElsewhere(found, name); owned != "" {
			owners = append(owners, owned)
		} else if results[i]["valid"] == false {
			if here := b.refused(ctx, *s.Secrets[name]); len(here) > 0 && !hindered(found, name) {
				refused, fix = append(refused, here...), b.doctor.Subject(r).Write("verify", "repair=true")
			}
		}
		found = append(found, verified(results[i], fix).Of(name)...)
	}
	advice := strings.Join(owners, "; ")
	if advice == "" && len(refused) > 0 {
		advice = drift.AdviceFor(r, refused)
	} else if advice == "" && valid {
		b.drift.Forget(r, names)
	}
	data := inspection(found)
	data["role"], data["version"], data["valid"], data["secrets"], data["advice"] = r.Name, s.Version, valid, secrets, advice
	return &logical.Response{Data: data}, nil
}

// hindered reports whether the target of a secret was found to be such that to set a
// value again would be refused, or in vain: that has to be mended first.
func hindered(found preflight.Report, secret string) bool {
	return slices.ContainsFunc(found.With(preflight.Error), func(f preflight.Finding) bool {
		return f.Secret == secret && f.Check != validCheck
	})
}

// validCheck is the check that values do what they should.
const validCheck = "secret.valid"

// verifySecrets verifies all of them at the same time.
func (b *backend) verifySecrets(ctx context.Context, s *rotation.Snapshot, names []string) []map[string]any {
	results := make([]map[string]any, len(names))
	var asked sync.WaitGroup
	for i, name := range names {
		asked.Go(func() { results[i] = b.verifySecret(ctx, *s.Secrets[name]) })
	}
	asked.Wait()
	return results
}

// ownedElsewhere says which other mount manages a user of a secret, "" if none does. What
// is stored here is not to be set again there.
func ownedElsewhere(found preflight.Report, name string) string {
	for _, f := range found.With(preflight.Error) {
		if f.Secret == name && f.Check == database.OwnerCheck {
			return f.Detail
		}
	}
	return ""
}

// verified is the result of verifying a secret as a finding.
func verified(result map[string]any, fix preflight.Fix) (found preflight.Report) {
	found.Expect(result["valid"] == true, validCheck, preflight.Error, fix, "%v", result["error"])
	return found
}

// refused says what the target of a secret refuses that it should accept.
func (b *backend) refused(ctx context.Context, s rotation.Secret) []string {
	refused, _ := b.engine.Refused(ctx, s) // what can't be asked is in the report already
	if len(refused) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("secret %s, %s", s.Name, strings.Join(refused, ", "))}
}

// pathVerifyWrite corresponds to UPDATE on verify and verify/:role.
func (b *backend) pathVerifyWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if !d.Get("repair").(bool) {
		return nil, rotation.Invalid("repair", "is not true; read this path to verify, or write repair=true to set stored values again at targets that refuse them")
	}
	wait, err := takeWait(d)
	if err != nil {
		return nil, err
	}
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	request := b.newRequest(req, rotation.KindRepair)
	request.Secrets = d.Get("secrets").([]string)
	if request.Reason, err = takeReason(d); err != nil {
		return nil, err
	}
	return b.startAndWait(ctx, r, *request, wait)
}

func (b *backend) verifySecret(ctx context.Context, s rotation.Secret) map[string]any {
	proofs, err := b.types[s.Type].Verify(ctx, s)
	result := map[string]any{"valid": err == nil, "proven": proofs}
	if err != nil {
		result["error"] = err.Error()
	}
	return result
}

// inspection answers what was found.
func inspection(found preflight.Report) map[string]any {
	findings := []map[string]any{}
	for _, f := range found.Open() {
		findings = append(findings, map[string]any{
			"check": f.Check, "severity": string(f.Severity), "secret": f.Secret, "detail": f.Detail, "fix": f.Fix.String(),
		})
	}
	return map[string]any{"ready": found.Ready(), "findings": findings, "passed": found.Passed(), "report": found.Text()}
}

// inspectionFields declares what inspection answers.
func inspectionFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"ready": field(framework.TypeBool, "true if no finding has severity error. An error would make a rotation fail, or harm applications."),
		"findings": field(framework.TypeSlice, oneLine(`What is wrong, the worst first. check is the name of the test that found it.
			severity is error, warning, or unknown (the engine could not find out). secret is empty if the finding is about the whole
			role. detail says what is wrong. fix has the psql statements or the command that removes the cause; for severity unknown, the command with which you can find out.`)),
		"passed": field(framework.TypeStringSlice, "Names of the tests that found nothing wrong."),
		"report": field(framework.TypeString, "All results as text, for people; read it with -field=report."),
	}
}

const verifyHelp = `
Logs in with every current database password, signs and verifies with every key, and
tests that the targets refuse wrong ones. It does not try retired values, which are
destroyed; the record of their retirement shows who refused them. It also tests what
rotations depend on: privileges, whether two alternating users own the same
objects and have the same privileges, limits, clocks, checks and destinations. For each finding it says what to run. Read this
path with -field=report before you go live. Reading changes nothing. Writing repair=true
sets the stored values again at servers that refuse them, for example after somebody
changed a password there, or after Vault was restored from an older snapshot. The
version, and the values that applications read, stay the same.`

func (b *backend) pathLeaked() *framework.Path {
	fields := operationFields()
	for _, name := range []string{"role", "secrets", "revoke_previous"} {
		delete(fields, name)
	}
	fields["value"] = sensitive("The text that somebody found: a password, a connection string, a key, a token or any other value. Write value=- and pass it on standard input.")
	fields["respond"] = field(framework.TypeBool, "Whether to rotate, with revoke_previous=true, each secret that has the value as a current, previous, pending or next one.")
	fields["wait"].Description = "With respond: how long the request waits for the operations to end, at most 60 s."
	return &framework.Path{
		Pattern:      "leaked",
		DisplayAttrs: attributes("look-up", "leaked-value"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathLeakedWrite, "Find out to which secret a leaked value belongs or belonged, and replace it.", map[string]*framework.FieldSchema{
				"found":      field(framework.TypeBool, "Whether the text is or was a value of this mount."),
				"values":     field(framework.TypeSlice, "What the text is or was, one entry for each: role or connection, secret, type, stage (current, previous, pending, next or retired), version (0 if it never was current), and token (whether the text is a token: one that this key has signed or, if the key is retired, one with its kid)."),
				"operations": field(framework.TypeSlice, "With respond: one entry for each role or connection with values that are not retired: role or connection, secrets, rotation_id, status, version, warnings, error if it did not complete, and summary, a sentence for people."),
				"report":     field(framework.TypeString, "All of that as text, for people; read it with -field=report."),
			}),
		},
		HelpSynopsis:    "Find out to which secret a leaked value belongs or belonged.",
		HelpDescription: oneLine(leakedHelp),
	}
}

// pathLeakedWrite corresponds to UPDATE on leaked.
func (b *backend) pathLeakedWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	text := strings.TrimSpace(d.Get("value").(string))
	if text == "" {
		return nil, rotation.Invalid("value", "is missing; pass the text that leaked on standard input, with value=-")
	}
	wait, err := takeWait(d)
	if err != nil {
		return nil, err
	}
	reason, err := takeReason(d)
	if err != nil {
		return nil, err
	}
	found, unread, err := b.tripwire.Find(ctx, text)
	if err != nil {
		return nil, err
	}
	values, operations := []map[string]any{}, []map[string]any{}
	for _, m := range found {
		values = append(values, describeMatch(m))
	}
	if d.Get("respond").(bool) {
		operations = b.respond(ctx, req, found, reason, wait)
	}
	resp := &logical.Response{Data: map[string]any{
		"found": len(found) > 0, "values": values, "operations": operations, "report": leakedReport(found, operations),
	}}
	if unread != nil {
		resp.AddWarning(fmt.Sprintf("what the engine can't read was not searched: %v", unread))
	}
	return resp, nil
}

// respond replaces what is known to others, of all roles at the same time, and returns an
// answer about each. What fails for one holds up no other.
func (b *backend) respond(ctx context.Context, req *logical.Request, found []tripwire.Match, reason string, wait time.Duration) []map[string]any {
	exposed := tripwire.ExposedBy(found)
	answers := make([]map[string]any, len(exposed))
	var asked sync.WaitGroup
	for i, e := range exposed {
		asked.Go(func() {
			resp, err := b.replace(ctx, req, e, reason, wait)
			answers[i] = replaced(e, resp, err)
		})
	}
	asked.Wait()
	return answers
}

// replaced is the answer about the values of one role or connection.
func replaced(e tripwire.Exposed, resp *logical.Response, err error) map[string]any {
	answer := map[string]any{
		roles.Subject(e.Role): e.Role.Name, "secrets": e.Secrets, "rotation_id": "", "status": string(rotation.OutcomeFailed),
		"version": e.Role.Snapshot().Version, "warnings": []string{}, "error": "",
	}
	var failure *rotation.Failure
	if errors.As(err, &failure) {
		answer["rotation_id"], answer["status"] = failure.Record.ID, string(failure.Record.Outcome)
	}
	if err != nil {
		answer["error"] = strings.ReplaceAll(err.Error(), rotation.ErrInvalid.Error()+": ", "")
	} else {
		for _, name := range []string{"rotation_id", "status", "version"} {
			answer[name] = resp.Data[name]
		}
		answer["warnings"] = append([]string{}, resp.Warnings...)
	}
	said := append([]string{fmt.Sprint(answer["status"])}, answer["warnings"].([]string)...)
	if err != nil {
		said = append(said, answer["error"].(string))
	}
	answer["summary"] = fmt.Sprintf("%s %s, rotation of %s: %s", roles.Subject(e.Role), e.Role.Name, strings.Join(e.Secrets, ", "), strings.Join(said, "; "))
	return answer
}

// replace rotates what is known to others of one role or connection. A key that only the
// request is given that makes it is not made here: whoever reports a leak is given no value.
func (b *backend) replace(ctx context.Context, req *logical.Request, e tripwire.Exposed, reason string, wait time.Duration) (*logical.Response, error) {
	request := b.newRequest(req, rotation.KindRotate)
	request.Reason = "a value of stage " + strings.Join(e.Stages, " and ") + " was reported as leaked"
	if reason != "" {
		request.Reason += ": " + reason
	}
	request.RevokePrevious = true
	request.DiscardNext = slices.Contains(e.Stages, tripwire.StageNext)
	if roles.IsConnection(e.Role) {
		if err := b.connections.CheckAdmin(ctx, *e.Role.Snapshot().Secrets[connections.Admin]); err != nil {
			return nil, fmt.Errorf("%w; then run: vault write -f %srotate-root/%s", err, b.mountPath(), e.Role.Name)
		}
	}
	hidden := shownOnce(e.Role.Snapshot(), e.Secrets)
	request.Secrets = slices.DeleteFunc(slices.Clone(e.Secrets), func(name string) bool { return slices.Contains(hidden, name) })
	left := fmt.Sprintf("the new key of %s (hash_only) is returned only to whoever rotates, so rotate yourself: vault write %srotate/%s secrets=%s revoke_previous=true",
		roles.Sample(hidden), b.mountPath(), e.Role.Name, strings.Join(hidden, ","))
	if len(request.Secrets) == 0 {
		return nil, errors.New(left)
	}
	resp, err := b.startAndWait(ctx, e.Role, *request, wait)
	if err == nil && len(hidden) > 0 {
		resp.AddWarning(left)
	}
	return resp, err
}

// leakedReport says for people what was found, what was done about it, and what is to do.
func leakedReport(found []tripwire.Match, operations []map[string]any) string {
	if len(found) == 0 {
		return "The text is no value of this mount, and was none that was retired within tripwire_retention.\n"
	}
	var report strings.Builder
	for _, m := range found {
		fmt.Fprintf(&report, "%s %s, secret %s (%s): %s", subjectOfKey(m), m.Name(), m.Secret, m.Type, m.Stage)
		if m.Version > 0 {
			fmt.Fprintf(&report, ", version %d", m.Version)
		}
		if m.Token {
			fmt.Fprint(&report, ", by a token of this key")
		}
		fmt.Fprintln(&report)
	}
	for _, o := range operations {
		fmt.Fprintln(&report, o["summary"])
	}
	switch exposed := tripwire.ExposedBy(found); {
	case len(exposed) == 0 && slices.ContainsFunc(found, func(m tripwire.Match) bool { return m.Token && m.Stage != tripwire.StageRetired }):
		fmt.Fprintln(&report, "A token tells nobody the key that signed it, so there is nothing to rotate. To end it before its exp, rotate the key with revoke_previous=true: that ends all tokens of the key.")
	case len(exposed) == 0:
		fmt.Fprintln(&report, "The value is retired: the engine refuses it, and there is nothing to rotate.")
	case len(operations) == 0:
		fmt.Fprintln(&report, "Nothing was changed. To replace the value now, run the same command with respond=true.")
	}
	return report.String()
}

func describeMatch(m tripwire.Match) map[string]any {
	return map[string]any{subjectOfKey(m): m.Name(), "secret": m.Secret, "type": m.Type, "stage": m.Stage, "version": m.Version, "token": m.Token}
}

// subjectOfKey is the field that names the role or connection of a match.
func subjectOfKey(m tripwire.Match) string {
	if m.IsConnection() {
		return "connection"
	}
	return "role"
}

const leakedHelp = `
Takes a text that somebody found where it should not be, and says which secret it is or
was a value of: role, secret, type, stage and version, and nothing else. The engine
recognizes what creds returns, and also administrators' passwords, private keys in any
form that can be imported, passwords in connection strings, SCRAM verifiers, and tokens,
by the key that signed them. It recognizes retired values for tripwire_retention of
config. It recognizes a token of a retired key only by its kid, which anybody can write into a token.
With respond=true, it also rotates, with revoke_previous=true, each secret that has the value
as a current, previous, pending or next one. It leaves the key of a
token as it is, because a token tells nobody the key. It does not rotate a hash_only key,
because the response would have to contain the new key. Whoever may write this
path can guess values, so it needs a policy of its own.`
