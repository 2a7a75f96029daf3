package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// debianPython is the one that scripts/get-python.sh prepares.
const debianPython = "/usr/bin/python3"

// pythonKit returns the directory of the kit for Python services, and the environment
// to run it in.
func pythonKit(t *testing.T) (dir string, env []string) {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(root, "bootstrap/apps/python")
	return dir, []string{"PYTHONPATH=" + dir, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"}
}

// TestPythonKit runs the kit's own tests, those with a real PostgreSQL among them.
func TestPythonKit(t *testing.T) {
	t.Parallel()
	dir, env := pythonKit(t)
	cmd := exec.CommandContext(t.Context(), debianPython, "-m", "pytest", "-q", "-rs")
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), env...), "SMVM_TEST_POSTGRES="+shared.postgres.SuperuserDSN(), "SMVM_TEST_CA="+shared.postgres.CAFile)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "skipped") {
		t.Errorf("pytest (scripts/test.sh installs it): %v\n%s", err, out)
	}
	for _, wrong := range newScanner().report("what pytest says", out) {
		t.Error(wrong)
	}
}

// TestPythonTypes has mypy check the kit.
func TestPythonTypes(t *testing.T) {
	t.Parallel()
	dir, _ := pythonKit(t)
	cmd := exec.CommandContext(t.Context(), "mypy", "smvm")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("mypy (scripts/test.sh installs it): %v\n%s", err, out)
	}
}

// TestPythonUnits has systemd check the drop-ins, beside the procedure's unit and the
// Agent's.
func TestPythonUnits(t *testing.T) {
	t.Parallel()
	e := &engine{T: t, vault: shared.vault, path: "smvm"}
	kit, _ := pythonKit(t)
	dir := t.TempDir()
	e.install(dir, "/usr/local/bin/vault", shared.vault.Binary)
	units := filepath.Join(dir, "systemd")
	if err := os.CopyFS(units, os.DirFS(filepath.Join(kit, "systemd"))); err != nil {
		t.Fatal(err)
	}
	service := filepath.Join(units, "smvm-api.service")
	if err := os.WriteFile(service, []byte("[Service]\nExecStart=/usr/bin/python -m smvm.main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	analyze(t, "verify", "--man=no", service, filepath.Join(units, "smvm-api-changed.service"))
}

// pythonService starts the kit's example on the default role of the engine.
func (e *engine) pythonService(env []string, args ...string) *service {
	e.Helper()
	_, common := pythonKit(e.T)
	s := &service{T: e.T, address: freeAddress(e.T)}
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		e.Fatal(err)
	}
	s.Program = launch(e.T, append(common, env...), debianPython, append([]string{"-m", "smvm.main", "--port", port}, args...)...)
	e.serving(s)
	return s
}

// directPythonService reads Vault, by a login of its own.
func (e *engine) directPythonService() *service {
	e.Helper()
	roleID, secretID := e.approle()
	login := []string{"VAULT_ADDR=" + e.vault.Address, "SMVM_ROLE_ID_FILE=" + roleID, "SMVM_SECRET_ID_FILE=" + secretID}
	return e.pythonService(login, "--path", e.path+"/creds/default")
}

// pythonServices are two instances: one reads Vault, the other the files of an Agent,
// which has it reload.
func (e *engine) pythonServices() []*service {
	e.Helper()
	a := e.startAgent("agent", "agent.hcl")
	direct := e.directPythonService()
	a.updated(0, 30*time.Second)
	files := e.pythonService(nil, "--from", "files", "--dir", a.dir)
	e.Cleanup(a.reload(files))
	return []*service{direct, files}
}

// TestPythonServices runs two instances of the example through rotations.
func TestPythonServices(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.served("alternating_users", shortTerms)
	e.throughRotations(e.pythonServices())
}

// throughRotations sends requests to instances while their secrets rotate, are rolled
// back and revoked, and while their sessions are ended: none fails, PostgreSQL refuses no
// login, and nothing is used for longer than it may.
func (e *engine) throughRotations(services []*service) {
	e.Helper()
	requests := make([]*traffic, len(services))
	for i, s := range services {
		requests[i] = e.beginAt(s, 25*time.Millisecond) // of four clients
	}
	for _, operation := range []string{"rotate", "rollback", "rotate", "rotate"} {
		version := number(e.T, e.write(operation, nil), "version")
		for i, s := range services {
			e.reaches(s, version, time.Minute)
			requests[i].follow(e.creds())
		}
		e.drained(text(e.creds(), "db_username"))
		e.endSessions()
	}
	for _, each := range requests {
		each.end(e.T)
	}
	version := number(e.T, e.write("rotate", nil), "version")
	for _, s := range services {
		e.reaches(s, version, time.Minute)
	}
	e.drained(text(e.creds(), "db_username")) // connections that nobody asks for, too
	e.noRefusals()                            // of a revoked login there may be one, which no request notices
	e.revokesIn(services)
}

// TestPythonServiceWithoutServers takes Vault away, and PostgreSQL twice for a moment:
// the service goes on and makes up for it, and no request fails.
func TestPythonServiceWithoutServers(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.served("alternating_users", shortTerms)
	s := e.directPythonService()
	requests := e.beginAt(s, 50*time.Millisecond)
	e.killVault(s)
	if err := errors.Join(e.postgres.Kill(), e.postgres.Start(t.Context()), e.vault.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	e.reaches(s, number(t, e.write("rotate", nil), "version"), time.Minute)
	requests.follow(e.creds())
	if err := e.postgres.Restart(t.Context()); err != nil { // which tells its clients, unlike Kill
		t.Fatal(err)
	}
	s.accepts(text(e.creds(), "api_key"))
	e.drained(text(e.creds(), "db_username"))
	requests.end(t)
	e.noRefusals()
}

// killVault takes Vault away, and waits until the service has noticed.
func (e *engine) killVault(s *service) {
	e.Helper()
	if err := e.vault.Kill(); err != nil {
		e.Fatal(err)
	}
	e.notices(s)
}

// notices waits until the service tells that its reads fail.
func (e *engine) notices(s *service) {
	e.Helper()
	e.eventually("the service to notice", time.Minute, func(context.Context) error {
		health, err := s.try(http.MethodGet, "/health", "", "")
		if err == nil && health["failed_reads"] == float64(0) {
			err = errors.New("it has not")
		}
		return err
	})
}

// TestPythonNoticesDeadAgent ends the Agent whose files a service reads. The service
// works on with them, and tells that they may be old: a minute after the Agent should have
// read, which is now, since the test takes two minutes off the time of its last read.
func TestPythonNoticesDeadAgent(t *testing.T) {
	t.Parallel()
	a, _ := newRendering(t)
	e := a.engine
	s := e.pythonService(nil, "--from", "files", "--dir", a.dir)
	told := func() (at, ttl int64) {
		text, err := os.ReadFile(filepath.Join(a.dir, "read.env"))
		if err != nil {
			t.Fatal(err)
		}
		_, settings, _ := strings.Cut(string(text), "reads again.\n")
		if _, err := fmt.Sscanf(settings, "SMVM_READ_AT=%d\nSMVM_TTL=%d\n", &at, &ttl); err != nil {
			t.Fatal(err)
		}
		return at, ttl
	}
	first, _ := told()
	e.eventually("the Agent to tell of a later read", time.Minute, func(context.Context) error {
		if at, _ := told(); at == first {
			return errors.New("it has not")
		}
		return nil
	})
	if health, err := s.try(http.MethodGet, "/health", "", ""); err != nil || health["failed_reads"] != float64(0) {
		t.Errorf("with an Agent that reads, the service tells: %v, %v", health, err)
	}
	if err := a.program.Shutdown(); err != nil {
		t.Fatal(err)
	}
	at, ttl := told()
	aged := fmt.Sprintf("SMVM_READ_AT=%d\nSMVM_TTL=%d\n", at-120, ttl)
	if err := os.WriteFile(filepath.Join(a.dir, "read.env"), []byte(aged), 0o600); err != nil {
		t.Fatal(err)
	}
	e.notices(s)
	s.accepts(text(e.creds(), "api_key"))
}

// endSessions ends those of the services.
func (e *engine) endSessions() {
	e.Helper()
	e.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('{p}_a', '{p}_b') AND application_name = 'smvm-api'")
}

// revokesIn rotates without an overlap: within the time that ttl promises, the key
// and the tokens from before are refused, and the health check notices nothing of it.
func (e *engine) revokesIn(services []*service) {
	e.Helper()
	before := text(e.creds(), "api_key")
	tokens := make([]string, len(services))
	for i, s := range services {
		tokens[i] = s.accepts(before)
	}
	e.write("rotate", map[string]any{"revoke_previous": true})
	revoked := time.Now()
	for i, s := range services {
		e.eventually("the revoked key to be refused", time.Minute, func(context.Context) error {
			if _, err := s.try(http.MethodGet, "/health", "", ""); err != nil {
				e.Errorf("after the revocation: %v", err)
			}
			if _, err := s.try(http.MethodGet, "/api/test", "X-API-Key", before); err == nil {
				return errors.New("it is accepted")
			}
			return nil
		})
		if _, err := s.try(http.MethodGet, "/api/test", "Authorization", "Bearer "+tokens[i]); err == nil {
			e.Error("a token of the revoked key is accepted")
		}
		s.accepts(text(e.creds(), "api_key"))
	}
	// A ttl of a second, which the readers make two, and a look at the files by the second.
	took := time.Since(revoked)
	e.Logf("the revoked key was refused after %s", took.Round(time.Millisecond))
	if took > 3*time.Second+2*agentSlack {
		e.Errorf("the revoked key was refused after %s only", took)
	}
}

// TestPythonForgetsRetiredKeys waits for an overlap to end, which makes no new version.
func TestPythonForgetsRetiredKeys(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.served("single_user", map[string]any{"rotation_period": "24h", "overlap": "4s", "refresh_interval": "1s"})
	for i, s := range e.pythonServices() {
		creds := e.creds()
		e.reaches(s, number(t, creds, "version"), time.Minute)
		key := text(creds, "api_key")
		token := s.accepts(key)
		e.write("rotate", nil)
		e.eventually(fmt.Sprintf("the retired key to be refused by instance %d", i), time.Minute, func(context.Context) error {
			if _, err := s.try(http.MethodPost, "/api/token", "X-API-Key", key); err == nil {
				return errors.New("it is accepted")
			}
			return nil
		})
		if _, err := s.try(http.MethodGet, "/api/test", "Authorization", "Bearer "+token); err == nil {
			t.Error("a token of the retired key is accepted")
		}
		s.accepts(text(e.creds(), "api_key"))
	}
}
