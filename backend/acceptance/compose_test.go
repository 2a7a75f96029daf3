//go:build compose

package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// composed is the kit of bootstrap/apps/compose, in directories and at ports of the
// test's, beside what docs/applications.md has its reader type.
type composed struct {
	*engine
	shell *terminal
	// steps are the blocks of the page, places what stands for its paths and ports.
	steps  []step
	places *strings.Replacer
	// services are the instances.
	services []*service
}

// container is what podman says of one.
type container struct {
	State struct {
		Pid       int
		StartedAt time.Time
		Health    struct {
			Status string
			Log    []json.RawMessage
		}
	}
	Config struct {
		Env    []string
		Labels map[string]string
	}
}

// awkward is a policy for passwords that every reader of a .env file needs quotes for.
const awkward = `length = 32
rule "charset" {
  charset = "abcdefghijklmnopqrstuvwxyz0123456789"
  min-chars = 8
}
rule "charset" {
  charset = " #$'\"\\` + "`" + `{}"
  min-chars = 8
}`

// TestCompose does what docs/applications.md says about Docker Compose, with
// docker-compose and containers of podman (scripts/compose.sh): the services start when
// the Agent has written the first files, and no request fails when values change,
// whether the services use new files while they run or restart for them.
func TestCompose(t *testing.T) {
	c := newComposed(t)
	c.startsInOrder()
	requests := []*traffic{c.beginAt(c.services[0], 25*time.Millisecond), c.beginAt(c.services[1], 25*time.Millisecond)}
	for _, operation := range []string{"rotate", "rollback", "rotate"} {
		c.changes(operation, requests...)
	}
	c.losesItsAgent()
	c.changes("rotate", requests...)
	c.keepsToItself()
	c.hasRawFile()
	for _, each := range requests {
		each.end(t)
	}

	c.rolls()
	c.shell.run("docker-compose down --volumes") // as the page says for podman
	c.types(3)                                   // restart.yaml
	c.healthy()
	throughFront := c.beginAt(c.balanced(), 25*time.Millisecond)
	for _, operation := range []string{"rotate", "rollback"} {
		c.changes(operation, throughFront)
	}
	throughFront.end(t)
	c.keepsToItself()
	c.noRefusals()
}

// newComposed has an engine ready, and nothing of what the page is about.
func newComposed(t *testing.T) *composed {
	t.Helper()
	if os.Getenv("DOCKER_HOST") == "" {
		t.Fatal("there is no engine to run containers; run as root: make compose")
	}
	e, shell := newOperated(t)
	c := &composed{engine: e, shell: shell}
	policies := e.vault.Client.Logical()
	_, err := policies.WriteWithContext(t.Context(), "sys/policies/password/awkward", map[string]any{"policy": awkward})
	if err := errors.Join(err, e.vault.RegisterPlugin(t.Context(), shared.plugin, ""), e.vault.Enable(t.Context(), e.path, "")); err != nil {
		t.Fatal(err)
	}
	e.served("alternating_users", map[string]any{"rotation_period": "24h", "overlap": "30m", "refresh_interval": "2s"})
	e.write("secrets/default/db", map[string]any{"password_policy": "awkward"})
	c.moved()
	for _, s := range steps(page(t, "docs/applications.md")) {
		if s.section == "Docker Compose" {
			c.steps = append(c.steps, s)
		}
	}
	if len(c.steps) != 4 {
		t.Fatalf("the page has %d blocks about Docker Compose", len(c.steps))
	}
	return c
}

// moved copies the kits to where the commands are typed, for the directory and the ports
// of this test.
func (c *composed) moved() {
	c.Helper()
	root, work := c.shell.dir, c.TempDir()
	etc := filepath.Join(work, "etc")
	places := []string{"/etc/smvm-api:/", etc + ":/", "env_file: /etc/smvm-api", "env_file: " + etc, "install.sh", "install.sh -dir " + etc, "enroll.sh", "enroll.sh -dir " + etc}
	for _, port := range []string{"8001", "8002"} {
		s := &service{T: c.T, address: freeAddress(c.T)}
		c.services = append(c.services, s)
		places = append(places, port, s.address[strings.LastIndex(s.address, ":")+1:])
	}
	c.places = strings.NewReplacer(places...)
	c.shell.dir = work
	if err := os.CopyFS(filepath.Join(work, "bootstrap"), os.DirFS(filepath.Join(root, "bootstrap"))); err != nil {
		c.Fatal(err)
	}
	for _, name := range []string{"compose.yaml", "restart.yaml"} {
		file := filepath.Join(work, "bootstrap/apps/compose", name)
		text, err := os.ReadFile(file)
		if err := errors.Join(err, os.WriteFile(file, []byte(c.places.Replace(string(text))), 0o600)); err != nil {
			c.Fatal(err)
		}
	}
}

// types runs a block of the page.
func (c *composed) types(block int) {
	c.Helper()
	c.shell.run("set -eu\n" + c.places.Replace(c.steps[block].commands))
}

// startsInOrder runs the first blocks while Vault is away: no service is started before
// the Agent has written its files.
func (c *composed) startsInOrder() {
	c.Helper()
	c.types(0)
	c.shell.dir = filepath.Join(c.shell.dir, "bootstrap/apps/compose") // as the block does
	if err := c.vault.Kill(); err != nil {
		c.Fatal(err)
	}
	c.examine()
	lone := make(chan error, 1)
	go func() { lone <- errors.Join(c.agentWaits(), c.vault.Start(c.Context())) }()
	c.types(1)
	if err := <-lone; err != nil {
		c.Fatal(err)
	}
	written, err := os.Stat(filepath.Join(c.volume(), "changed"))
	if err != nil {
		c.Fatal(err)
	}
	for name, each := range c.containers() {
		if name != "agent" && each.State.StartedAt.Before(written.ModTime()) {
			c.Errorf("%s started at %s, and the first files are of %s", name, each.State.StartedAt, written.ModTime())
		}
	}
	c.healthy()
	for _, s := range c.services {
		c.reaches(s, number(c.T, c.creds(), "version"), 2*time.Minute)
	}
}

// agentWaits returns when the Agent's health has been asked for three times. Nothing
// else may run by then.
func (c *composed) agentWaits() error {
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Minute)
	defer cancel()
	return testenv.Eventually(ctx, "the Agent without Vault", func(ctx context.Context) error {
		found, err := containers(ctx)
		agent := found["agent"].State
		if err != nil || len(agent.Health.Log) < 3 {
			return errors.Join(err, fmt.Errorf("its health was asked for %d times", len(agent.Health.Log)))
		}
		if agent.Health.Status != "starting" || running(found) != 1 {
			c.Errorf("without files, the Agent is %q, and %d containers run", agent.Health.Status, running(found))
		}
		return nil
	})
}

// running counts those that run.
func running(found map[string]container) (count int) {
	for _, each := range found {
		if each.State.Pid != 0 {
			count++
		}
	}
	return count
}

// examine has podman run the containers' health checks until the end of the test, which
// is what systemd does where there is one.
func (c *composed) examine() {
	ctx, stop := context.WithCancel(context.WithoutCancel(c.Context()))
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			names, _ := podman(ctx, "ps", "--quiet").Output()
			for name := range strings.FieldsSeq(string(names)) {
				_ = podman(ctx, "healthcheck", "run", name).Run() // its result is in the container's state
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
	c.Cleanup(func() {
		stop()
		done.Wait()
	})
}

// healthy waits until all containers are.
func (c *composed) healthy() {
	c.Helper()
	c.eventually("health", 2*time.Minute, func(context.Context) error {
		for name, each := range c.containers() {
			if each.State.Health.Status != "healthy" {
				return fmt.Errorf("%s is %q", name, each.State.Health.Status)
			}
		}
		return nil
	})
}

// changes has new values come into use by both instances, and then gives the clients
// the new key.
func (c *composed) changes(operation string, requests ...*traffic) {
	c.Helper()
	version, began := number(c.T, c.write(operation, nil), "version"), time.Now()
	for _, s := range c.services {
		c.reaches(s, version, 2*time.Minute)
	}
	c.Logf("%s: both instances use version %d after %s", operation, version, time.Since(began).Round(100*time.Millisecond))
	for _, each := range requests {
		each.follow(c.creds())
	}
}

// losesItsAgent kills the Agent's process: the engine starts its container again, and
// the files stay.
func (c *composed) losesItsAgent() {
	c.Helper()
	agent := c.containers()["agent"].State.Pid
	if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
		c.Fatal(err)
	}
	c.eventually("the Agent again", 2*time.Minute, func(context.Context) error {
		if now := c.containers()["agent"].State.Pid; now == 0 || now == agent {
			return fmt.Errorf("its process is %d", now)
		}
		return nil
	})
	c.healthy()
}

// keepsToItself looks for values where others could see them.
func (c *composed) keepsToItself() {
	c.Helper()
	// In the directory of the files, as another user and as who looks at its modes.
	agent := c.podman("ps", "--quiet", "--filter", "label=com.docker.compose.service=agent")
	const modes = `cd /var/lib/smvm-api; stat -c '%a %u' .; stat -f -c %T .; find . -type f ! -name changed ! -perm 600; find . ! -uid 10001`
	if got := c.podman("exec", agent, "sh", "-c", modes); got != "700 10001\ntmpfs" {
		c.Errorf("the directory of the files is\n%s", got)
	}
	if err := podman(c.Context(), "exec", "--user", "10002:10002", agent, "cat", "/var/lib/smvm-api/.env").Run(); err == nil {
		c.Error("another user can read the files")
	}
	// In what the engine knows, by both of its interfaces, and in what the containers say.
	ids := strings.Fields(c.podman("ps", "--all", "--quiet"))
	seen := c.podman(append([]string{"inspect"}, ids...)...) + c.shell.run("docker-compose logs --no-color; docker-compose config")
	for _, id := range ids {
		seen += c.shell.run(`curl -fsS --unix-socket "${DOCKER_HOST#unix://}" http://engine/containers/` + id + `/json`)
	}
	s := newScanner()
	for _, wrong := range s.report("what the engine and the containers say", []byte(seen)) {
		c.Error(wrong)
	}
	text, err := os.ReadFile(filepath.Join(c.volume(), "config/secrets.yaml"))
	if err != nil || len(s.find(text)) == 0 {
		c.Errorf("and nothing is found in the files themselves, which have values: %v", err)
	}
}

// hasRawFile has the engine read .env.raw for a container: each value is as it is, and,
// as the page says, the engine shows it.
func (c *composed) hasRawFile() {
	c.Helper()
	id := c.podman("create", "--env-file", filepath.Join(c.volume(), ".env.raw"), "smvm-api", "true")
	var made []container
	if err := json.Unmarshal([]byte(c.podman("inspect", id)), &made); err != nil {
		c.Fatal(err)
	}
	c.podman("rm", id)
	for name, value := range shellsRead(c.engine, filepath.Join(c.volume(), ".env")) {
		if regexp.MustCompile(`^(SMVM|DB|DATABASE)_`).MatchString(name) && !slices.Contains(made[0].Config.Env, name+"="+value) {
			c.Errorf("%s is another in .env.raw than in .env", name)
		}
	}
	if password := text(c.creds(), "db_password"); !slices.Contains(made[0].Config.Env, "DATABASE_PASSWORD="+password) {
		c.Error("the password in .env.raw is not what it is")
	}
}

// rolls has roll.sh restart the instances behind a load balancer: no request fails.
func (c *composed) rolls() {
	c.Helper()
	before, requests := c.containers(), c.beginAt(c.balanced(), 25*time.Millisecond)
	c.types(2) // roll.sh
	requests.end(c.T)
	for name, now := range c.containers() {
		if restarted := now.State.Pid != before[name].State.Pid; restarted != (name != "agent") {
			c.Errorf("%s was restarted: %t", name, restarted)
		}
	}
}

// balanced is the service behind a load balancer.
func (c *composed) balanced() *service {
	c.Helper()
	s := &service{T: c.T, address: freeAddress(c.T)}
	config := filepath.Join(c.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout check 10s
  retries 5
  option redispatch 1
  retry-on conn-failure empty-response
listen api
  bind %s
  option httpchk GET /health
  default-server check inter 200ms fall 1 rise 1
  server one %s
  server two %s
`, s.address, c.services[0].address, c.services[1].address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		c.Fatal(err)
	}
	s.Program = launch(c.T, nil, "haproxy", "-db", "-f", config)
	c.serving(s)
	return s
}

// containers are those of the kit, by service.
func containers(ctx context.Context) (map[string]container, error) {
	ids, err := podman(ctx, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project").Output()
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	out, err := podman(ctx, append([]string{"inspect"}, strings.Fields(string(ids))...)...).Output()
	var all []container
	if err := errors.Join(err, json.Unmarshal(out, &all)); err != nil {
		return nil, err
	}
	found := map[string]container{}
	for _, each := range all {
		found[each.Config.Labels["com.docker.compose.service"]] = each
	}
	return found, nil
}

func (c *composed) containers() map[string]container {
	c.Helper()
	found, err := containers(c.Context())
	if err != nil || len(found) != 3 {
		c.Fatalf("there are %d containers: %v", len(found), err)
	}
	return found
}

// volume is where the files are on this machine.
func (c *composed) volume() string {
	c.Helper()
	return c.podman("volume", "inspect", "--format", "{{.Mountpoint}}", "compose_credentials")
}

// podman runs it, and returns what it prints.
func (c *composed) podman(args ...string) string {
	c.Helper()
	out, err := podman(c.Context(), args...).Output()
	if err != nil {
		c.Fatalf("podman %q: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}
