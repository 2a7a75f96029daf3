package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// An application that takes what .env has when it is started or reloaded, and notes
// it. That can be made to last, and to fail.
const taking = `[Service]
User=
Group=
ExecStartPre=
ExecStartPre=/usr/local/bin/take %i
ExecStart=
ExecStart=/usr/bin/sleep infinity
ExecReload=
ExecReload=/usr/local/bin/take %i
`

const take = `#!/bin/sh
text=$(cat /var/lib/smvm-api/.env)
echo "$text" >>/srv/taken-$1
while [ -e /var/lib/smvm-api/lasts ]; do sleep 0.05; done
[ "$text" != refused ]
`

// rolls are the ways in which smvm-api-changed.service has the application take new
// files: as it is shipped, and by its other line.
var rolls = map[string]func(unit string) string{
	"reload": func(unit string) string { return unit },
	"restart": func(unit string) string {
		unit = strings.Replace(unit, "\nExecStart=", "\n#ExecStart=", 1)
		return strings.Replace(unit, "\n#ExecStart=/usr/local/lib/smvm-api/roll.sh", "\nExecStart=/usr/local/lib/smvm-api/roll.sh -health file:///etc/passwd", 1)
	},
}

// TestChangedUnits has the shipped units react to new files under a systemd: what
// changes while the application takes what changed before is taken too, also after a
// failure, and many changes at once are no reason to give up. An application that
// ends comes back.
func TestChangedUnits(t *testing.T) {
	t.Parallel()
	for name, roll := range rolls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := boot(t, map[string]string{
				"/etc/systemd/system/smvm-api-changed.path":      shipped(t, "systemd/smvm-api-changed.path"),
				"/etc/systemd/system/smvm-api-changed.service":   roll(shipped(t, "systemd/smvm-api-changed.service")),
				"/etc/systemd/system/smvm-api@.service":          unhardened(t, "systemd/smvm-api@.service"),
				"/etc/systemd/system/smvm-api@.service.d/a.conf": taking,
				"/usr/local/lib/smvm-api/roll.sh":                shipped(t, "roll.sh"),
				"/usr/local/bin/take":                            take,
				"/var/lib/smvm-api/.env":                         "first\n",
			})
			m.run("mkdir /run/smvm-api; systemctl start smvm-api-changed.path smvm-api@8001 smvm-api@8002")
			m.taken("first", "8001", "8002")
			for _, during := range []string{"accepted", "refused"} {
				m.put("/var/lib/smvm-api/lasts", "")
				m.change(during)
				m.taken(during, "8001")
				m.change("after " + during)
				if err := os.Remove(filepath.Join(m.root, "/var/lib/smvm-api/lasts")); err != nil {
					t.Fatal(err)
				}
				m.taken("after "+during, "8001", "8002")
				m.run("timeout 30 sh -c 'while [ -e /run/smvm-api/changed ] || [ $(systemctl is-active smvm-api-changed.service) = activating ]; do sleep 0.05; done'")
			}
			// The application's user can put a directory there. What a link in it leads to stays.
			m.put("/var/lib/smvm-api/.env", "a directory\n")
			m.run("mkdir /run/smvm-api/other; ln -s /srv /run/smvm-api/other; mv /run/smvm-api/other /run/smvm-api/changed")
			m.taken("a directory", "8001", "8002")
			m.run(burst)
			if state := m.run("systemctl is-active smvm-api-changed.path smvm-api@8001 smvm-api@8002; systemctl list-units --failed --quiet --plain"); state != "active\nactive\nactive" {
				t.Errorf("after that: %s", state)
			}
			// As one does that is reloaded before it hears the signal: it ends, and not by a failure.
			m.run("before=$(systemctl show --property=NRestarts --value smvm-api@8001); systemctl kill --signal=HUP smvm-api@8001; timeout 60 sh -c 'until systemctl is-active --quiet smvm-api@8001 && [ $(systemctl show --property=NRestarts --value smvm-api@8001) -gt '$before' ]; do sleep 0.1; done'")
		})
	}
}

// shipped is a file of bootstrap/apps/agent.
func shipped(t *testing.T, name string) string {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "bootstrap/apps/agent", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// unhardened is a shipped unit without what a container may not do: its sandbox.
func unhardened(t *testing.T, name string) string {
	t.Helper()
	unit, _, _ := strings.Cut(shipped(t, name), "NoNewPrivileges=")
	return unit
}

// burst makes changes one after the other, each as soon as the one before was taken.
const burst = `cd /var/lib/smvm-api
for i in {1..12}; do
	echo "$i" >.env.part; mv .env.part .env; touch /run/smvm-api/changed
	for instance in 8001 8002; do
		timeout 60 sh -c "until grep -qx $i /srv/taken-$instance; do sleep 0.02; done" || { echo "change $i in $SECONDS s is not taken by $instance"; systemctl status 'smvm-api*' || true; exit 1; }
	done
done`

// change is what the Agent does.
func (m *machine) change(text string) {
	m.Helper()
	m.put("/var/lib/smvm-api/.env", text+"\n")
	m.run("touch /run/smvm-api/changed")
}

// taken waits until this is what these instances have taken last.
func (m *machine) taken(text string, instances ...string) {
	m.Helper()
	for _, instance := range instances {
		m.eventually(text+" at "+instance, func() error {
			if all := m.read("/srv/taken-" + instance); !strings.HasSuffix("\n"+all, "\n"+text+"\n") {
				return fmt.Errorf("it has taken %q", all)
			}
			return nil
		})
	}
}
