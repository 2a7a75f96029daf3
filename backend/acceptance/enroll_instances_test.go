package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestEnrollInstances enrolls two instances: each has an entity with a name by which a
// person knows it, and -list says how old the secret ids of all are.
func TestEnrollInstances(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", nil)
	first, second := t.TempDir(), t.TempDir()
	e.enrolls(first, "first", "-bound", "127.0.0.0/8")
	// Before there were instances, all had one AppRole. The third is of another role.
	for name, policy := range map[string]string{e.path: e.path, e.path + "-third": "default"} {
		e.writesVault("auth/approle/role/"+name, map[string]any{"token_policies": policy})
		e.writesVault("auth/approle/role/"+name+"/secret-id", nil)
	}
	e.enrolls(second, "second")
	for dir, name := range map[string]string{first: "first", second: "second"} {
		if entity := e.entityOf(e.logsIn(dir)); entity != e.path+"-"+name {
			t.Errorf("the entity of the %s is %q", name, entity)
		}
	}
	// The application owns role_id: no more of it is read than a role id is long.
	roleID, err := os.ReadFile(filepath.Join(first, "role_id"))
	grown := slices.Concat(roleID, bytes.Repeat([]byte("\n"), 300), []byte("more"))
	if err := errors.Join(err, os.WriteFile(filepath.Join(first, "role_id"), grown, 0o600)); err != nil {
		t.Fatal(err)
	}
	e.rotates(first, "first")
	if err := os.WriteFile(filepath.Join(first, "role_id"), roleID, 0o600); err != nil {
		t.Fatal(err)
	}
	e.ages(e.path, e.path+"-second", e.path+"-first")
	e.outOfTurn(first)
	e.cutOff(first, "first")

	// A machine that had another AppRole gets one with its own name.
	before := e.logsIn(second)
	stranger := e.tokenFor(e.path+"-stranger", regexp.MustCompile(`(?m)^path "identity/.*\n`).ReplaceAllString(e.policyOfHelp("default", givesLogin, andRotates), ""))
	said, err := e.enroll(stranger, "-name", e.path, "-instance", enrolledAs, "-dir", second, "default")
	if err != nil || !strings.Contains(said, "has no name") || !strings.Contains(said, "vault delete auth/approle/role/"+e.path+"\n") {
		t.Errorf("without rights to name it: %v, it says %s", err, said)
	}
	if was, is := e.entityOf(before), e.entityOf(e.logsIn(second)); was != e.path+"-second" || !strings.HasPrefix(is, "entity_") {
		t.Errorf("the entity was %q and is %q", was, is)
	}
}

// enrolls gives an instance its login.
func (e *engine) enrolls(dir, name string, args ...string) {
	e.Helper()
	if said, err := e.enroll(e.vault.RootToken, append([]string{"-name", e.path, "-instance", name, "-dir", dir, "default"}, args...)...); err != nil {
		e.Fatalf("enroll.sh: %v: %s", err, said)
	}
}

// rotates replaces the secret id of an instance.
func (e *engine) rotates(dir, name string) {
	e.Helper()
	e.enrolls(dir, name, "-rotate")
}

// entityOf is the name of a token's entity in Vault.
func (e *engine) entityOf(token string) string {
	e.Helper()
	found, err := e.vault.Client.Auth().Token().LookupWithContext(e.Context(), token)
	if err != nil {
		e.Fatal(err)
	}
	return text(e.readsVault("identity/entity/id/"+text(found.Data, "entity_id")), "name")
}

func (e *engine) readsVault(path string) map[string]any {
	e.Helper()
	return e.ofVault(e.vault.Client.Logical().ReadWithContext(e.Context(), path))
}

func (e *engine) writesVault(path string, data map[string]any) map[string]any {
	e.Helper()
	return e.ofVault(e.vault.Client.Logical().WriteWithContext(e.Context(), path, data))
}

func (e *engine) ofVault(answer *api.Secret, err error) map[string]any {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
	if answer == nil {
		return nil
	}
	return answer.Data
}

// ages checks what enroll.sh -list says with the rights that it names.
func (e *engine) ages(want ...string) {
	e.Helper()
	said, err := e.enroll(e.tokenFor(e.path+"-lister", e.policyOfHelp("default", lists)), "-list", "-name", e.path, "default")
	if err != nil {
		e.Fatalf("enroll.sh -list: %v: %s", err, said)
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	var got []string
	for _, line := range lines[1:] {
		row := strings.Fields(line)
		got = append(got, row[2])
		host, err := os.Hostname()
		if row[2] == e.path {
			host = "-"
		}
		from := "any"
		if row[2] == e.path+"-first" {
			from = "127.0.0.0/8"
		}
		if created, _ := time.ParseInLocation(time.DateOnly, row[0], time.Local); err != nil || time.Since(created) > 48*time.Hour || row[1] != "0" || row[3] != host || row[5] != from {
			e.Errorf("%s: %v", line, err)
		}
	}
	if !slices.Equal(got, want) {
		e.Errorf("it lists %v, want %v:\n%s", got, want, said)
	}
}

// outOfTurn has secret ids replaced, and another login given, while another enroll.sh
// works, and replaced while the policy does not allow to read the values: nothing changes,
// in Vault and here.
func (e *engine) outOfTurn(dir string) {
	e.Helper()
	fails := func(want string, args ...string) {
		e.Helper()
		ids, file, role := e.secretIDs("first"), e.secretID(dir), fmt.Sprint(e.readsVault("auth/approle/role/"+e.path+"-first"))
		said, err := e.enroll(e.vault.RootToken, append([]string{"-name", e.path, "-instance", "first", "-dir", dir, "default"}, args...)...)
		if err == nil || !strings.Contains(said, want) {
			e.Errorf("%v, it says %q, want %q", err, said, want)
		}
		if after := e.secretIDs("first"); !slices.Equal(after, ids) || e.secretID(dir) != file {
			e.Errorf("there were %v, and now are %v", ids, after)
		}
		if after := fmt.Sprint(e.readsVault("auth/approle/role/" + e.path + "-first")); after != role {
			e.Errorf("the AppRole was %s, and now is %s", role, after)
		}
	}
	held, err := os.OpenFile(filepath.Join(dir, ".enroll.lock"), os.O_WRONLY, 0)
	if err := errors.Join(err, syscall.Flock(int(held.Fd()), syscall.LOCK_EX)); err != nil {
		e.Fatal(err)
	}
	fails("another enroll.sh is writing to "+dir, "-rotate")
	fails("another enroll.sh is writing to "+dir, "-bound", "10.0.0.0/8")
	policy, err := e.vault.Client.Sys().GetPolicyWithContext(e.Context(), e.path)
	if err := errors.Join(err, held.Close(), e.vault.Client.Sys().PutPolicyWithContext(e.Context(), e.path, `path "other" { capabilities = ["read"] }`)); err != nil {
		e.Fatal(err)
	}
	fails("may not read "+e.path+"/creds/default", "-rotate")
	if err := e.vault.Client.Sys().PutPolicyWithContext(e.Context(), e.path, policy); err != nil {
		e.Fatal(err)
	}
}

// cutOff deletes an instance's AppRole and its entity, which ends its tokens.
func (e *engine) cutOff(dir, name string) {
	e.Helper()
	r := e.raw()
	r.token = e.logsIn(dir)
	before := r.do(http.MethodGet, "creds/default", nil)
	for _, path := range []string{"auth/approle/role/", "identity/entity/name/"} {
		e.ofVault(e.vault.Client.Logical().DeleteWithContext(e.Context(), path+e.path+"-"+name))
	}
	if after := r.do(http.MethodGet, "creds/default", nil); before.status == http.StatusForbidden || after.status != http.StatusForbidden {
		e.Errorf("its token is answered %d, and was answered %d", after.status, before.status)
	}
}

// secretIDs are the accessors of an instance's secret ids.
func (e *engine) secretIDs(name string) []string {
	e.Helper()
	answer := e.ofVault(e.vault.Client.Logical().ListWithContext(e.Context(), "auth/approle/role/"+e.path+"-"+name+"/secret-id"))
	var found []string
	for _, id := range answer["keys"].([]any) {
		found = append(found, id.(string))
	}
	slices.Sort(found)
	return found
}

func (e *engine) secretID(dir string) string {
	e.Helper()
	id, err := os.ReadFile(filepath.Join(dir, "secret_id"))
	if err != nil {
		e.Fatal(err)
	}
	remember(strings.TrimSpace(string(id)))
	return strings.TrimSpace(string(id))
}

// TestEnrollRotates kills enroll.sh -rotate between its steps: what is in the files logs in,
// every time. Running it again finishes: then only the new secret id works. A real Agent,
// whose token ends every few seconds, goes on logging in.
func TestEnrollRotates(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", map[string]any{"rotation_period": "24h", "refresh_interval": "1s"})
	e.write("secrets/default/api", map[string]any{"type": "api_key"})
	dir := t.TempDir()
	e.install(dir)
	e.enrolls(dir, enrolledAs)
	old, token := e.secretID(dir), e.logsIn(dir)
	e.writesVault("auth/approle/role/"+e.path+"-"+enrolledAs, map[string]any{"token_explicit_max_ttl": "4s"})
	program := launch(t, []string{"VAULT_ADDR=" + e.vault.Address, "SMVM_CREDS=" + e.path + "/creds/default", "SMVM_DB=", "SMVM_JWT=", "SMVM_API=api"},
		e.vault.Binary, "agent", "-config="+filepath.Join(dir, "agent.hcl"))
	a := &agent{engine: e, dir: dir, program: program}
	a.appears("changed")

	k := e.newKiller(dir)
	// Before it unwraps the new secret id, logs in with it, puts it into the file, lists
	// the others, destroys the first of them, and the second.
	for _, step := range []int{3, 4, 7, 8, 9, 10} {
		if said, err := k.run(step); err == nil || !strings.Contains(err.Error(), "signal: killed") {
			t.Fatalf("step %d: %v: %s", step, err, said)
		}
		e.logsIn(dir)
		if id := e.secretID(dir); (id == old) != (step <= 7) {
			t.Errorf("killed at step %d, the old secret id is in the file: %t", step, id == old)
		}
	}
	if said, err := k.run(0); err != nil || !strings.Contains(said, "has a new secret id in "+dir+", and no other one works") {
		t.Fatalf("%v: %s", err, said)
	}
	e.logsIn(dir)
	if ids := e.secretIDs(enrolledAs); len(ids) != 1 {
		t.Errorf("there are the secret ids %v", ids)
	}
	k.shown(old, e.secretID(dir), "hvs.")
	if err := e.turnsAway(dir, old); err != nil {
		t.Error(err)
	}
	if _, err := e.vault.Client.Auth().Token().LookupWithContext(t.Context(), token); err != nil {
		t.Errorf("the token of the old secret id: %v", err)
	}
	a.logsInAgain()
}

// logsInAgain waits until the Agent has logged in once more, and has new values from then.
func (a *agent) logsInAgain() {
	a.Helper()
	logins := func() int {
		log, err := os.ReadFile(a.program.LogPath)
		if err != nil {
			a.Fatal(err)
		}
		return strings.Count(string(log), "authentication successful")
	}
	before := logins()
	a.eventually("the Agent to log in", 2*time.Minute, func(context.Context) error {
		if now := logins(); now < before+2 { // the first may have begun before
			return fmt.Errorf("it has logged in %d times, and %d times before", now, before)
		}
		return nil
	})
	a.write("rotate", nil)
	a.eventually("new values", 2*time.Minute, func(context.Context) error {
		if a.yaml()["api_key"] != text(a.creds(), "api_key") {
			return errors.New("the files have the old ones")
		}
		return nil
	})
}

// turnsAway checks that a secret id does not log in.
func (e *engine) turnsAway(dir, secretID string) error {
	e.Helper()
	roleID, err := os.ReadFile(filepath.Join(dir, "role_id"))
	if err != nil {
		return err
	}
	_, err = e.vault.Client.Logical().WriteWithContext(e.Context(), "auth/approle/login", map[string]any{"role_id": strings.TrimSpace(string(roleID)), "secret_id": secretID})
	if err == nil || !strings.Contains(err.Error(), "invalid role or secret ID") {
		return fmt.Errorf("the old secret id is answered %w", err)
	}
	return nil
}

// killer runs enroll.sh -rotate, with the rights that -help names, and kills it at one of
// its steps: when it runs vault or mv for that time.
type killer struct {
	*engine
	dir, token, programs string
}

func (e *engine) newKiller(dir string) *killer {
	e.Helper()
	k := &killer{e, dir, e.tokenFor(e.path+"-rotator", e.policyOfHelp("default", andRotates)), e.TempDir()}
	mv, err := exec.LookPath("mv")
	for name, program := range map[string]string{"vault": e.vault.Binary, "mv": mv} {
		script := fmt.Sprintf("#!/bin/bash\necho \"$*\" >>%[1]s/steps\n[ \"$(wc -l <%[1]s/steps)\" != \"$STEP\" ] || kill -KILL 0\nexec %[2]s \"$@\"\n", k.programs, program)
		err = errors.Join(err, testenv.WriteProgram(filepath.Join(k.programs, name), []byte(script), 0o700))
	}
	if err != nil {
		e.Fatal(err)
	}
	return k
}

// run kills it at a step, or lets it finish.
func (k *killer) run(step int) (string, error) {
	k.Helper()
	if err := os.WriteFile(filepath.Join(k.programs, "steps"), nil, 0o600); err != nil {
		k.Fatal(err)
	}
	cmd := k.enrolling(k.token, "-rotate", "-name", k.path, "-instance", enrolledAs, "-dir", k.dir, "default")
	cmd.Env = append(cmd.Env, "PATH="+k.programs+":"+os.Getenv("PATH"), fmt.Sprintf("STEP=%d", step))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// shown checks that none of these words was in an argument of a program.
func (k *killer) shown(words ...string) {
	k.Helper()
	steps, err := os.ReadFile(filepath.Join(k.programs, "steps"))
	if err != nil || !strings.Contains(string(steps), "sys/wrapping/unwrap token=-") {
		k.Fatalf("%v: the arguments were\n%s", err, steps)
	}
	for _, word := range words {
		if strings.Contains(string(steps), word) {
			k.Errorf("a secret is in the arguments of a program")
		}
	}
}
