package acceptance

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// envs are what the application's user may have put in place of .env, and which
// version smvm-api-tests.service finds there.
var envs = []struct {
	name    string
	plant   func(m *machine, at string)
	version string
}{
	{"what the Agent writes", func(m *machine, _ string) { m.put(env, "# Written by Vault Agent\nSMVM_VERSION=7\nDB_USER=api\n") }, "SMVM_VERSION=7\n"},
	{"a link to a file of root", func(m *machine, _ string) { m.run("ln -s /srv/theirs " + env) }, ""},
	{"a FIFO that somebody feeds without end", func(m *machine, at string) { m.fifo(at); m.feed(at) }, "SMVM_VERSION=5\n"},
	{"a FIFO that nobody feeds", func(m *machine, at string) { m.fifo(at) }, ""},
}

const env = "/var/lib/smvm-api/.env"

// TestTestedVersion has the shipped unit look for the version to test in what belongs to
// the application's user, who gets nothing of root's by that, and does not keep root busy.
func TestTestedVersion(t *testing.T) {
	t.Parallel()
	m := boot(t, map[string]string{
		"/etc/systemd/system/smvm-api-tests.service":          unhardened(t, "systemd/smvm-api-tests.service"),
		"/etc/systemd/system/smvm-api-tests.service.d/a.conf": "[Service]\nExecStart=/usr/bin/sleep 0\n",
		"/etc/smvm-api/vault-agent.env":                       "SMVM_CREDS=smvm/creds/default\n",
		"/usr/local/lib/smvm-api/tested.sh":                   shipped(t, "tested.sh"),
		"/var/lib/smvm-api-tests/due":                         "",
		"/srv/theirs":                                         "SMVM_VERSION=99\n",
	})
	m.run("chmod 600 /srv/theirs; useradd --system --user-group --no-create-home smvm-api; mkdir /var/lib/smvm-api")
	for _, each := range envs {
		m.run("rm -f " + env)
		each.plant(m, filepath.Join(m.root, env))
		m.run("chown --no-dereference --recursive smvm-api: /var/lib/smvm-api")
		m.run("timeout 60 systemctl start smvm-api-tests.service || [ $? != 124 ]")
		if version := m.read("/var/lib/smvm-api-tests/version"); version != each.version {
			t.Errorf("with %s in place of .env, the version is %.99q of %d bytes", each.name, version, len(version))
		}
	}
}

func (m *machine) fifo(at string) {
	m.Helper()
	if err := syscall.Mkfifo(at, 0o600); err != nil {
		m.Fatal(err)
	}
}

// feed writes a version into a FIFO, again and again until the test ends.
func (m *machine) feed(at string) {
	m.Helper()
	fifo, err := os.OpenFile(at, os.O_RDWR, 0)
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = fifo.Close() })
	go func() {
		for err == nil {
			_, err = fifo.WriteString("SMVM_VERSION=5\n")
		}
	}()
}
