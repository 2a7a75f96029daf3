package acceptance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// brought are what docs/applications.md has its reader bring along: an application that
// says which version it takes over, and tests of it that end as /srv/outcome says.
var brought = map[string]string{
	"/usr/local/bin/orders": `#!/bin/bash
take() { grep SMVM_VERSION= /var/lib/smvm-api/.env; }
trap take HUP # before it takes anything: whoever has, is not ended by a reload
take
# No process is left when it ends: a systemd in a container waits long for that.
exec 3<> <(:)
while :; do read -rt 0.2 -u 3; done
`,
	"/usr/bin/python3": `#!/bin/bash
echo "$* of version $SMVM_VERSION"
cat /var/lib/smvm-api/.env
case $(cat /srv/outcome) in
passes) ;;
fails) exit 1 ;;
hangs) echo "hangs with version $SMVM_VERSION"; trap '' TERM; while :; do sleep 1; done ;;
"is killed") kill -KILL $$ ;;
esac
`,
	"/srv/outcome": "passes",
	// The application has no /health.
	"/usr/local/bin/curl": "#!/bin/bash\n[[ $* == */health ]] || exec /usr/bin/curl \"$@\"\n",
	// There is no journal.
	"/etc/systemd/system/smvm-api@.service.d/output.conf":      "[Service]\nStandardOutput=append:/srv/taken-%i\n",
	"/etc/systemd/system/smvm-api-tests.service.d/output.conf": "[Service]\nStandardOutput=append:/srv/tests\nStandardError=inherit\n",
	"/etc/systemd/system/smvm-agent.service.d/output.conf":     "[Service]\nStandardOutput=append:/srv/agent\nStandardError=inherit\n",
}

// toDo is what a page has its reader do: run a block, or enter one into an editor.
var toDo = regexp.MustCompile("(?s)systemctl edit (\\S+)`[^\n]*\n\\s*```ini\n(.*?)```|```sh\n(.*?)```")

// agentPage is a machine on which somebody follows docs/applications.md, beside the
// Vault and the PostgreSQL of the engine.
type agentPage struct {
	*machine
	engine *engine
	places *strings.Replacer
}

// TestAgentPage does what docs/applications.md says about Vault Agent, from top to
// bottom, on a machine on which there is nothing of it yet: the units come up, in their
// sandbox, the application takes over what a rotation makes, first by reloading and then
// by restarting, and tests of it that fail, hang or are killed roll the rotation back.
func TestAgentPage(t *testing.T) {
	t.Parallel()
	p := newAgentPage(t)
	_, section, _ := strings.Cut(page(t, "docs/applications.md"), "\n## Vault Agent\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, step := range toDo.FindAllStringSubmatch(section, -1) {
		unit, entered, commands := step[1], step[2], step[3]
		if unit != "" {
			p.put("/etc/systemd/system/"+unit+".d/override.conf", entered)
			p.run("systemctl daemon-reload")
		}
		p.run("cd /kit; . /root/vault.env\n" + p.places.Replace(commands))
		switch {
		case strings.Contains(commands, "smvm-agent.service"):
			p.follows(number(t, p.engine.creds(), "version"))
			if before := p.instances(); before != p.rotates() {
				t.Error("the application was restarted, and not reloaded")
			}
		case unit == "smvm-api-changed.service":
			if before := p.instances(); before == p.rotates() {
				t.Error("the application was reloaded, and not restarted")
			}
		case strings.Contains(commands, "smvm-api-tests.path"):
			p.tests()
		}
	}
	if state := p.run("systemctl list-units --failed --quiet --plain; systemctl is-active smvm-agent"); state != "active" {
		t.Errorf("after that: %s", state)
	}
}

func newAgentPage(t *testing.T) *agentPage {
	t.Helper()
	e := newEngine(t)
	e.orders("alternating_users", map[string]any{"rotation_period": "24h", "overlap": "1h", "refresh_interval": "1s"})
	vault, err := filepath.EvalSymlinks(e.vault.Binary)
	if err != nil {
		t.Fatal(err)
	}
	m := bootWith(t, brought, "--privileged", "--network", "host", "--volume", vault+":/usr/bin/vault:ro")
	m.put("/root/vault.env", fmt.Sprintf("export VAULT_ADDR=%s VAULT_TOKEN=%s\n", e.vault.Address, e.vault.RootToken))
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(m.root, "kit", "bootstrap"), os.DirFS(filepath.Join(root, "bootstrap"))); err != nil {
		t.Fatal(err)
	}
	// Nobody waits five minutes here for tests that hang.
	m.put("/etc/systemd/system/smvm-api-tests.service.d/time.conf", "[Service]\nTimeoutStartSec=15s\n")
	return &agentPage{m, e, strings.NewReplacer("install.sh ", "install.sh -path "+e.path+" ", "enroll.sh ", "enroll.sh -path "+e.path+" ")}
}

// rotates waits until both instances have taken over the values of a rotation, and
// returns which processes they are then.
func (p *agentPage) rotates() string {
	p.Helper()
	p.follows(number(p.T, p.engine.write("rotate", nil), "version"))
	return p.instances()
}

func (p *agentPage) follows(version int64) {
	p.Helper()
	p.taken(fmt.Sprintf("SMVM_VERSION=%d", version), "8001", "8002")
}

// instances are the processes of both instances, when no change is under way.
func (p *agentPage) instances() (processes string) {
	p.Helper()
	p.eventually("both instances", func() error {
		processes = p.run("systemctl show --property=MainPID --value smvm-api@8001 smvm-api@8002")
		state := p.run("cd /run/smvm-api; echo *; systemctl show --property=ActiveState --value smvm-api-changed.service smvm-api@8001 smvm-api@8002")
		if strings.Contains(state, "changed") || strings.Contains(state, "activating") {
			return fmt.Errorf("they are %q", state)
		}
		return nil
	})
	return processes
}

// tests has the user's tests of a rotation end in every way. What they say of the version
// is all that the engine hears of them, and a version that a rollback has made stays,
// even though it fails them too.
func (p *agentPage) tests() {
	p.Helper()
	if found := p.run("find /etc/smvm-api/tests -type f '(' ! -uid 0 -o -perm /077 ')'; find /etc/smvm-api/tests -name '*_id'"); strings.Count(found, "\n") != 1 {
		p.Errorf("others than root can read a login: %s", found)
	}
	p.says("pytest /srv/orders/tests of version", "has passed the tests, and stays")
	for outcome, reason := range map[string]string{"fails": "exit-code exited 1", "hangs": "timeout killed KILL", "is killed": "signal killed KILL"} {
		p.put("/srv/outcome", "passes")
		good := number(p.T, p.engine.write("rotate", nil), "version")
		p.says(fmt.Sprintf("version %d of %s/creds/default has passed the tests, and stays", good, p.engine.path))
		user := text(p.engine.creds(), "db_username")

		p.put("/srv/outcome", outcome)
		bad := number(p.T, p.engine.write("rotate", nil), "version")
		p.says(fmt.Sprintf("version %d has failed the tests (%s). Rollback", bad, reason), fmt.Sprintf("completed, version %d", bad+1))
		p.follows(bad + 1)
		p.says(fmt.Sprintf("if_version: version %d of default was not made by a rotation", bad+1))
		if now := p.engine.creds(); text(now, "db_username") != user || number(p.T, now, "version") != bad+1 {
			p.Errorf("after tests that end so: %s, readers have version %v", outcome, now["version"])
		}
		p.recorded(bad+1, fmt.Sprintf("^tests on [^ ]+ of version %d: %s$", bad, reason))
	}
	p.testsAgain()
	for line := range strings.SplitSeq(p.read("/srv/tests"), "\n") {
		if strings.HasPrefix(line, "tested.sh: ") {
			p.Log(line)
		}
	}
	p.eventually("the tests to end", func() error {
		if state := p.run("systemctl show --property=ActiveState --value smvm-api-tests.service"); state != "inactive" {
			return errors.New(state)
		}
		return nil
	})
}

// testsAgain rotates while tests of a version hang: the newer version is left alone when
// they have failed, and is tested then.
func (p *agentPage) testsAgain() {
	p.Helper()
	p.put("/srv/outcome", "hangs")
	older := number(p.T, p.engine.write("rotate", nil), "version")
	p.says(fmt.Sprintf("hangs with version %d\n", older))
	p.put("/srv/outcome", "passes")
	newer := number(p.T, p.engine.write("rotate", nil), "version")
	p.says(fmt.Sprintf("if_version: is %d, but default has version %d now", older, newer), fmt.Sprintf("version %d of %s/creds/default has passed the tests", newer, p.engine.path))
	if version := number(p.T, p.engine.creds(), "version"); version != newer {
		p.Errorf("the role has version %d", version)
	}
}

// recorded checks what the history says of the rollback that made a version.
func (p *agentPage) recorded(version int64, reason string) {
	p.Helper()
	for _, record := range p.engine.history() {
		if record["kind"] == "rollback" && number(p.T, record, "version") == version {
			if !regexp.MustCompile(reason).MatchString(text(record, "reason")) {
				p.Errorf("the reason of version %d is %q", version, record["reason"])
			}
			return
		}
	}
	p.Errorf("no rollback has made version %d", version)
}

// says waits until the tests, or what reports them, have said all of that.
func (p *agentPage) says(words ...string) {
	p.Helper()
	p.eventually(strings.Join(words, ", "), func() error {
		said := p.read("/srv/tests")
		for _, word := range words {
			if !strings.Contains(said, word) {
				return fmt.Errorf("the tests have not said %q", word)
			}
		}
		return nil
	})
}
