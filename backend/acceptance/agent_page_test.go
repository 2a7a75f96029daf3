package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// standIns are what docs/applications.md has its reader bring along: a client of Vault,
// whose Agent has the login that enroll.sh wrote, and writes the files that the real one
// renders, and an application that notes what it takes over.
var standIns = map[string]string{
	"/srv/value": "first\n",
	"/usr/bin/vault": `#!/bin/bash
set -eu
case $1 in
agent)
	[ "$2" = -config=/etc/smvm-api/agent.hcl ]
	[ "$VAULT_ADDR" = https://vault.example.com:8200 ]
	cat /etc/smvm-api/{role_id,secret_id,agent.hcl} /etc/smvm-api/templates/* >/dev/null
	cd /var/lib/smvm-api
	mkdir config
	echo yaml >config/secrets.yaml
	echo pem >db-ca.pem
	seen=
	while :; do
		now=$(cat /srv/value)
		if [ "$now" != "$seen" ]; then
			echo "$now" >.env.part; mv .env.part .env; touch /run/smvm-api/changed
			seen=$now
		fi
		sleep 0.1
	done ;;
policy) cat >/dev/null ;;
auth) echo approle/ ;;
*) echo id ;;
esac
`,
	"/usr/local/bin/orders": `#!/bin/bash
port=${2##*:}
take() { cat /var/lib/smvm-api/.env >>"/var/lib/smvm-api/taken-$port"; }
trap take HUP # before it takes anything: whoever has, is not ended by a reload
take
# No process is left when it ends: a systemd in a container waits long for that.
exec 3<> <(:)
while :; do read -rt 0.2 -u 3; done
`,
	// The application has no /health.
	"/usr/bin/curl": "#!/bin/bash\n",
}

// toDo is what a page has its reader do: run a block, or enter one into an editor.
var toDo = regexp.MustCompile("(?s)systemctl edit (\\S+)`[^\n]*\n\\s*```ini\n(.*?)```|```sh\n(.*?)```")

// TestAgentPage does what docs/applications.md says about Vault Agent, from top to
// bottom, on a machine on which there is nothing of it yet: the units come up, and the
// application takes over new values, first by reloading and then by restarting.
func TestAgentPage(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(page(t, "docs/applications.md"), "\n## Vault Agent\n")
	section, _, _ = strings.Cut(section, "\n## ")
	m := boot(t, standIns)
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(m.root, "kit", "bootstrap"), os.DirFS(filepath.Join(root, "bootstrap"))); err != nil {
		t.Fatal(err)
	}
	for _, step := range toDo.FindAllStringSubmatch(section, -1) {
		unit, entered, commands := step[1], step[2], step[3]
		if unit != "" {
			m.put("/etc/systemd/system/"+unit+".d/override.conf", entered)
			m.run("systemctl daemon-reload")
		}
		m.run("cd /kit; export VAULT_ADDR=https://vault.example.com:8200\n" + commands)
		// What a container may not do.
		m.run("find /etc/systemd/system -name '*.service' -exec sed -i '/^NoNewPrivileges=/,/^LimitCORE=/d' {} +; systemctl daemon-reload")
		if strings.Contains(commands, "systemctl enable") {
			m.taken("first", "8001", "8002")
			if before := m.instances(); before != m.takes("second") {
				t.Error("the application was restarted, and not reloaded")
			}
		}
	}
	if before := m.instances(); before == m.takes("third") {
		t.Error("the application was reloaded, and not restarted")
	}
	if state := m.run("systemctl list-units --failed --quiet --plain; systemctl is-active smvm-agent"); state != "active" {
		t.Errorf("after that: %s", state)
	}
}

// takes has the Agent write a value, waits until both instances have it, and returns
// which processes they are.
func (m *machine) takes(value string) string {
	m.Helper()
	m.put("/srv/value", value+"\n")
	m.taken(value, "8001", "8002")
	return m.instances()
}

// instances are the processes of both instances, when no change is under way.
func (m *machine) instances() (processes string) {
	m.Helper()
	m.eventually("both instances", func() error {
		processes = m.run("systemctl show --property=MainPID --value smvm-api@8001 smvm-api@8002")
		state := m.run("cd /run/smvm-api; echo *; systemctl show --property=ActiveState --value smvm-api-changed.service smvm-api@8001 smvm-api@8002")
		if strings.Contains(state, "changed") || strings.Contains(state, "activating") {
			return fmt.Errorf("they are %q", state)
		}
		return nil
	})
	return processes
}
