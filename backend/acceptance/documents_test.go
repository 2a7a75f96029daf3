package acceptance

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// first are the pages whose commands build on one another, in the order in which a
// reader runs them. All other pages of docs/ follow.
var first = []string{
	"README.md", "docs/operations.md", "docs/applications.md", "docs/postgresql.md",
	"docs/tokens.md", "docs/api-keys.md", "docs/integrations.md", "docs/audit.md",
}

// elsewhere are the blocks of the pages that are not for the machine of this test,
// by their first line, and the test or the target of the Makefile that runs what is in
// them.
var elsewhere = map[string]string{
	"make demo":                       "TestDocuments", // the demo checks itself, and this is part of make test
	"make build VERSION=v0.2.0":       "TestUpgradeInRotation",
	"version=v0.1.0":                  "TestRelease",
	"useradd --system":                "TestAgentPage",
	"bootstrap/apps/agent/install.sh": "TestAgentPage",
	"bootstrap/apps/agent/enroll.sh ": "TestAgentPage",
	"instance=smvm-application":       "TestAgentPage",
	"systemctl enable --now":          "TestAgentPage",
	"vault auth tune":                 "TestAgentPage",
	"awk -F= -v late=":                "TestAgentPage",
	"install -D bootstrap/apps/agent": "TestAgentPage",
	"cd bootstrap/apps/compose":       "TestCompose",
	"docker-compose":                  "TestCompose",
	"../agent/roll.sh":                "TestCompose",
	"kubectl create serviceaccount":   "make kubernetes",
	"vault write auth/kubernetes/":    "make kubernetes",
}

// documents is the world in which the commands of the pages are run.
type documents struct {
	*engine
	shell *terminal
	// places are what stands for the placeholders of the pages.
	places []string
	// left are those of elsewhere that no page has had yet.
	left map[string]string
	// installs counts how often configure.sh has run.
	installs int
	// shown is all that was typed and shown.
	shown strings.Builder
}

// TestDocuments runs every command of the README and of docs/, page by page, as
// written, in a terminal, and looks for what they say that one sees. A block that
// is not run here has to be in elsewhere.
func TestDocuments(t *testing.T) {
	t.Parallel()
	e, shell := newOperated(t)
	d := &documents{engine: e, shell: shell, left: maps.Clone(elsewhere), places: []string{"make build\n", "", "bin/vault-plugin-secrets-smvm", shared.plugin, "histories", "bin/histories", "/var/log/vault/audit.log", e.vault.AuditLogPath, "/var/log/vault/vault.log", e.vault.LogPath}}
	session := shell.session()
	var last []step
	for _, name := range d.pages() {
		if name == "docs/integrations.md" {
			d.surround(session)
		}
		for _, s := range steps(page(t, name)) {
			switch {
			case d.isElsewhere(s):
			case s.section == "Uninstall":
				last = append(last, s)
			default:
				d.run(session, name, s)
			}
		}
	}
	for begins := range d.left {
		t.Errorf("no page has %q", begins)
	}
	for _, words := range []string{"db_username", "dry_run", "completed", "stage", "# Secret Rotation Audit", "wrote bin/report.html", "canonical texts are complete and unchanged"} {
		if !strings.Contains(d.shown.String(), words) {
			t.Errorf("the commands never showed %q:\n%s", words, &d.shown)
		}
	}
	d.stands()
	for _, s := range last {
		d.run(session, "docs/operations.md", s)
	}
	d.gone()
}

// pages are the names of all pages with commands for this test; TestRunbook runs
// those of the procedure.
func (d *documents) pages() []string {
	d.Helper()
	all, err := filepath.Glob(filepath.Join(d.shell.dir, "docs", "*.md"))
	if err != nil || len(all) == 0 {
		d.Fatalf("there are no pages: %v", err)
	}
	names := slices.Clone(first)
	for _, file := range all {
		if name := "docs/" + filepath.Base(file); name != procedure && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// page is a document of the project.
func page(t *testing.T, name string) string {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// commandsOf returns the commands in sections of a page.
func commandsOf(t *testing.T, name string, sections ...string) string {
	t.Helper()
	var commands strings.Builder
	for _, section := range sections {
		before := commands.Len()
		for _, s := range steps(page(t, name)) {
			if s.section == section {
				commands.WriteString(s.commands)
			}
		}
		if commands.Len() == before {
			t.Fatalf("%s has no section %q with commands", name, section)
		}
	}
	return commands.String()
}

// isElsewhere reports whether another test or a target runs the block, and makes sure
// that there is such a one.
func (d *documents) isElsewhere(s step) bool {
	d.Helper()
	for begins, test := range elsewhere {
		if !strings.HasPrefix(s.commands, begins) {
			continue
		}
		delete(d.left, begins)
		target, isTarget := strings.CutPrefix(test, "make ")
		if isTarget && !strings.Contains(page(d.T, "Makefile"), "\n"+target+": ") || !isTarget && !slices.Contains(testsHere(d.T, d.shell.dir), test) {
			d.Errorf("%q is to be run by %s, which does not exist", begins, test)
		}
		return true
	}
	return false
}

// testsHere are the names of the tests of this package.
func testsHere(t *testing.T, root string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "backend", "acceptance", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			names = append(names, string(found[1]))
		}
	}
	return names
}

// run runs a block, and checks what it has shown.
func (d *documents) run(session *session, name string, s step) {
	d.Helper()
	d.Logf("%s, %s, step %d", name, s.section, s.number+1)
	shown := session.run(strings.NewReplacer(d.places...).Replace(s.commands))
	fmt.Fprintf(&d.shown, "%s%s", s.commands, shown)
	if strings.Contains(s.commands, "configure.sh") {
		d.installed(shown)
	}
	for _, words := range s.sees {
		if !strings.Contains(shown, words) {
			d.Errorf("%s, %s: after\n%s\none does not see %q, but\n%s", name, s.section, s.commands, words, shown)
		}
	}
}

// installed checks what configure.sh has shown: run again, it changes nothing.
func (d *documents) installed(shown string) {
	d.Helper()
	if !strings.Contains(shown, "smvm/ runs") || d.installs > 0 && strings.Contains(shown, "changed   ") {
		d.Errorf("run for the %d. time, configure.sh said\n%s", d.installs+1, shown)
	}
	d.installs++
}

// surround starts what the engine talks to, and has it stand for the placeholders.
func (d *documents) surround(session *session) {
	d.Helper()
	called := (&pager{}).listen(d.T)
	kv := &library{engine: d.engine, mount: "secret"}
	login := kv.login()
	remember(fmt.Sprint(login["secret_id"]))
	aws := testenv.NewSecretsManager(d.T).URL
	d.places = append(d.places,
		"https://orders.example.com", "http://"+d.approleService().address,
		"https://hooks.example.com", called,
		"https://alertmanager.example.com", d.alertmanager(called),
		"https://vault.example.com", d.vault.Address,
		"region=eu-central-1", "region=eu-central-1 endpoint="+aws+" sts_endpoint="+aws+" access_key_id=AKIAEXAMPLE secret_access_key=example",
		"  role_arn=arn:aws:iam::123456789012:role/smvm", " ",
		"type=vault_kv", "type=vault_kv auth_mount=secret",
		"hooks.example.com:443", "127.0.0.1",
	)
	for _, host := range []string{"orders.example.com", "vault.example.com", "secretsmanager.eu-central-1.amazonaws.com", "sts.eu-central-1.amazonaws.com"} {
		d.places = append(d.places, host, "127.0.0.1")
	}
	session.run(fmt.Sprintf("role_id=%s secret_id=%s slack_url=%s key=0123456789abcdef0123456789abcdef", login["role_id"], login["secret_id"], called))
}

// stands checks that what the pages have set up works, and that copies have arrived.
func (d *documents) stands() {
	d.Helper()
	d.eventually("copies at both destinations", time.Minute, func(context.Context) error {
		for _, name := range []string{"kv", "aws"} {
			if about := d.about(name); about["state"] != "in_sync" {
				return fmt.Errorf("%s is %v", name, about)
			}
		}
		return nil
	})
	d.works(d.creds())
	if report := d.read("verify/legacy"); report["valid"] != true {
		d.Errorf("verify reports %v", report)
	}
	d.history()
}

// gone checks that nothing is left of the engine, and the application's users are.
func (d *documents) gone() {
	d.Helper()
	mounts, err := d.vault.Client.Sys().ListMountsWithContext(d.Context())
	if err != nil || mounts["smvm/"] != nil {
		d.Errorf("the mount is still there: %v, %v", mounts["smvm/"], err)
	}
	var users, marked int
	const count = `SELECT count(*) FILTER (WHERE rolname IN ('orders_a', 'orders_b', 'legacy')) - count(*) FILTER (WHERE rolname = 'smvm_admin'),
		count(*) FILTER (WHERE shobj_description(oid, 'pg_authid') LIKE '%Managed by smvm%') FROM pg_roles`
	for column, into := range map[string]*int{"1": &users, "2": &marked} {
		if err := d.query(d.postgres.SuperuserDSN(), "SELECT (ARRAY[a, b])["+column+"]::int FROM ("+count+") AS found(a, b)", into); err != nil {
			d.Fatal(err)
		}
	}
	if users != 3 || marked != 0 {
		d.Errorf("of the users %d are left, and %d are marked as managed", users, marked)
	}
}
