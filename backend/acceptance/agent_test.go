package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// agentSlack is how long after the time that ttl promised a new value may be in
// the files, on a busy machine. An Agent that did not heed ttl would read every five
// minutes.
const agentSlack = 10 * time.Second

// agent is a real Vault Agent with the shipped configuration.
type agent struct {
	*engine
	dir     string
	program *testenv.Program
}

// startAgent installs bootstrap/apps/agent for this test: with other directories and
// the test's mount, but otherwise as shipped. Mode is agent or proxy, config names its
// files, with a space between two; replacements are pairs of old and new.
func (e *engine) startAgent(mode, config string, replacements ...string) *agent {
	e.Helper()
	return e.startAgentWith(nil, mode, config, replacements...)
}

// newRendering is an Agent that has rendered the files of a role with short terms, and the
// version in them; replacements are those of startAgent.
func newRendering(t *testing.T, replacements ...string) (a *agent, version int64) {
	t.Helper()
	e := newEngine(t)
	e.served("alternating_users", shortTerms)
	a = e.startAgent("agent", "agent.hcl", replacements...)
	return a, a.updated(0, 30*time.Second)
}

// supervise starts an Agent that supervises a command.
func (e *engine) supervise(command string) *agent {
	e.Helper()
	return e.startAgentWith([]string{"SMVM_COMMAND=" + command, "SMVM_CREDS=" + e.path + "/creds/default", "SMVM_DB=db", "SMVM_JWT=jwt", "SMVM_API=api"}, "agent", "agent-exec.hcl")
}

// startAgentWith is startAgent with an environment.
func (e *engine) startAgentWith(env []string, mode, config string, replacements ...string) *agent {
	e.Helper()
	a := &agent{engine: e, dir: e.TempDir()}
	e.install(a.dir, replacements...)
	roleID, _ := e.approle()
	if err := os.CopyFS(a.dir, os.DirFS(filepath.Dir(roleID))); err != nil {
		e.Fatal(err)
	}
	args := []string{mode, "-log-level=debug"}
	for file := range strings.FieldsSeq(config) {
		args = append(args, "-config="+filepath.Join(a.dir, file))
	}
	a.program = launch(e.T, append(env, "VAULT_ADDR="+e.vault.Address), e.vault.Binary, args...)
	return a
}

// install copies bootstrap/apps/agent to dir.
func (e *engine) install(dir string, replacements ...string) {
	e.Helper()
	root, err := testenv.Root()
	if err != nil {
		e.Fatal(err)
	}
	source := filepath.Join(root, "bootstrap", "apps", "agent")
	replace := strings.NewReplacer(append([]string{"/etc/smvm-api", dir, "/var/lib/smvm-api", dir, "/run/smvm-api", dir, "smvm/creds", e.path + "/creds"}, replacements...)...)
	err = filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		target := filepath.Join(dir, strings.TrimPrefix(path, source))
		if err != nil || entry.IsDir() {
			return errors.Join(err, os.MkdirAll(target, 0o700))
		}
		text, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(target, []byte(replace.Replace(string(text))), 0o600))
	})
	if err != nil {
		e.Fatal(err)
	}
}

// rendered returns the version in .env, and when it was written. The file must
// be whole, and readable by its owner only.
func (a *agent) rendered() (version int64, at time.Time) {
	a.Helper()
	for _, name := range []string{".env", "config/secrets.yaml", "db-ca.pem"} {
		info, err := os.Stat(filepath.Join(a.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return 0, at
		}
		if err != nil || info.Mode().Perm() != 0o600 {
			a.Fatalf("%s has not mode 0600: %v, %v", name, info, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(a.dir, ".env"))
	if err != nil {
		a.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(a.dir, ".env"))
	if err != nil {
		a.Fatal(err)
	}
	if !regexp.MustCompile(`\nDATABASE_PASSWORD=.+\n$`).Match(text) {
		a.Fatal("an .env is not whole")
	}
	if _, err := fmt.Sscanf(string(text), "# Written by Vault Agent; changes are lost.\nSMVM_VERSION=%d\n", &version); err != nil {
		a.Fatal(err)
	}
	return version, info.ModTime()
}

// updated waits for a version above old in the files, and fails the test if it
// came later than what the Agent read last had promised.
func (a *agent) updated(old int64, within time.Duration) int64 {
	a.Helper()
	var version int64
	var at time.Time
	a.eventually("new values in the files", within, func(context.Context) error {
		if version, at = a.rendered(); version <= old {
			return fmt.Errorf("they are of version %d", version)
		}
		return nil
	})
	if old > 0 {
		promised := a.promised(version)
		a.Logf("%s: version %d was in the files %s after the time that ttl had promised", a.prefix, version, at.Sub(promised).Round(time.Millisecond))
		if at.After(promised.Add(agentSlack)) {
			a.Errorf("that is more than %s", agentSlack)
		}
	}
	return version
}

// promised is when, by the last answer that the Agent got before it got version,
// it was to read again. Vault's audit log has the numbers in clear.
func (a *agent) promised(version int64) time.Time {
	a.Helper()
	lines, err := a.vault.AuditLines()
	if err != nil {
		a.Fatal(err)
	}
	var promise time.Time
	for _, line := range lines {
		var entry auditEntry
		if !bytes.Contains(line, []byte(a.path+"/creds/default")) {
			continue
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			a.Fatal(err)
		}
		answer := entry.Response.Data
		if entry.Type == "response" && entry.Auth.DisplayName == "approle" && answer.Version > 0 && answer.Version < version {
			promise = entry.Time.Add(time.Duration(answer.TTL) * time.Second)
		}
	}
	if promise.IsZero() {
		a.Fatal("the Agent's reads are not in the audit log")
	}
	return promise
}

// auditEntry is what matters here of a line of the audit log.
type auditEntry struct {
	Time time.Time
	Type string
	Auth struct {
		DisplayName string `json:"display_name"`
	}
	Response struct{ Data struct{ Version, TTL int64 } }
}

// TestAgentRendersInTime has real Agents follow rotations by period, by cron, and
// by hand.
func TestAgentRendersInTime(t *testing.T) {
	t.Parallel()
	start := func(name string, terms map[string]any) *agent {
		e := mountAs(t, shared.vault, shared.postgres, t.Name()+name)
		e.orders("alternating_users", terms)
		return e.startAgent("agent", "agent.hcl")
	}
	period := start("Period", map[string]any{"rotation_period": 60})
	cron := start("Cron", map[string]any{"rotation_schedule": "* * * * *"})
	manual := start("Manual", shortTerms)
	periodVersion, cronVersion := period.updated(0, 30*time.Second), cron.updated(0, 30*time.Second)
	version := manual.updated(0, 30*time.Second)
	for _, emergency := range []bool{false, true} {
		manual.write("rotate", map[string]any{"revoke_previous": emergency})
		version = manual.updated(version, time.Minute)
	}
	cron.updated(cronVersion, 2*time.Minute)
	period.updated(periodVersion, 2*time.Minute)
}

// TestAgentReloads has a service take over the files that the Agent renders,
// whenever the Agent says so, without a failed request.
func TestAgentReloads(t *testing.T) {
	t.Parallel()
	a, _ := newRendering(t)
	e := a.engine
	s := e.startService(nil, "-from", "files", "-dir", a.dir)
	stop := a.reload(s)
	defer stop()
	requests := e.begin(s)
	for range 3 {
		answer := e.write("rotate", nil)
		e.reaches(s, number(t, answer, "version"), time.Minute)
		requests.follow(e.creds())
	}
	requests.end(t)
	e.noRefusals()
}

// TestAgentWithoutStamp renders where the command after it can't do its part, as when
// /run was emptied: each rotation is in the files as early as it always is.
func TestAgentWithoutStamp(t *testing.T) {
	t.Parallel()
	a, version := newRendering(t, "/changed", "/missing/changed")
	for range 5 {
		a.write("rotate", nil)
		version = a.updated(version, time.Minute)
	}
}

// reload sends SIGHUP to the service whenever the Agent has touched its stamp, as
// smvm-api-changed.path does. Both files must have been written by then.
func (a *agent) reload(s *service) (stop func()) {
	ctx, stop := context.WithCancel(a.Context())
	go func() {
		var last time.Time
		for ctx.Err() == nil {
			if info, err := os.Stat(filepath.Join(a.dir, "changed")); err == nil && info.ModTime().After(last) {
				last = info.ModTime()
				_ = s.Signal(syscall.SIGHUP)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return stop
}

// TestProxyLogsInForService has the service read through a Vault Proxy, without a
// token of its own.
func TestProxyLogsInForService(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.served("alternating_users", shortTerms)
	address := freeAddress(t)
	e.startAgent("proxy", "proxy.hcl", "127.0.0.1:8100", address)
	s := e.startService([]string{"VAULT_ADDR=http://" + address})
	answer := e.write("rotate", nil)
	e.reaches(s, number(t, answer, "version"), time.Minute)
	s.accepts(text(e.creds(), "api_key"))
}

// TestAgentSupervises has the Agent start the service with its environment, and
// start it anew after a rotation.
func TestAgentSupervises(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.served("alternating_users", map[string]any{"rotation_period": "24h", "overlap": "1h", "refresh_interval": "1s"})
	s := &service{T: t, address: freeAddress(t)}
	e.supervise(serviceBinary(t) + " -listen " + s.address + " -from environment")
	e.serving(s)
	before := text(e.creds(), "api_key")
	answer := e.write("rotate", nil)
	e.reaches(s, number(t, answer, "version"), 30*time.Second)
	s.accepts(before)
	s.accepts(text(e.creds(), "api_key"))
	e.noRefusals()
}
