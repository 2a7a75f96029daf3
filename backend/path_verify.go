package backend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/drift"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
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
		HelpSynopsis:    "Test that the values of a role work, that retired ones do not, and that the role is ready to rotate.",
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
	fields["valid"] = field(framework.TypeBool, "true if every value works, and the targets refuse every retired one.")
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
tests that the targets refuse the values that they must refuse. It also tests what
rotations depend on: privileges, whether two alternating users own the same
objects and have the same privileges, limits, clocks, checks and destinations. For each finding it says what to run. Read this
path with -field=report before you go live. Reading changes nothing. Writing repair=true
sets the stored values again at servers that refuse them, for example after somebody
changed a password there, or after Vault was restored from an older snapshot. The
version, and the values that applications read, stay the same.`
