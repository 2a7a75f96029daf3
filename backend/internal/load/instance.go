package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// instance is one process of the service, which may be restarted.
type instance struct {
	address string
	binary  string
	env     []string
	args    []string
	healthy atomic.Bool
	program *testenv.Program
}

func (i *instance) start(ctx context.Context) (err error) {
	i.program, err = testenv.StartProgram(ctx, i.env, i.binary, i.args...)
	return err
}

// control has the instance read its files again, or ends it in order and starts
// it anew.
func (i *instance) control(ctx context.Context, action string) error {
	if action == "reload" {
		return i.program.Signal(syscall.SIGHUP)
	}
	return errors.Join(i.program.Stop(), i.start(ctx))
}

// fleet is how a service is run and gets its credentials: its instances and, for
// some, the Agent and its files.
type fleet struct {
	instances []*instance
	agent     *testenv.Program
	control   *http.Server
	dir       string
}

func (f *fleet) stop() error {
	var errs []error
	if f.control != nil {
		errs = append(errs, f.control.Close())
	}
	errs = append(errs, f.agent.Stop())
	for _, i := range f.instances {
		errs = append(errs, i.program.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(f.dir))...)
}

// keepLogs copies the logs of the instances to where they stay, and says where that is.
func (f *fleet) keepLogs(sc scenario) error {
	dir, err := os.MkdirTemp("", "smvm-load-logs-")
	if err != nil {
		return fmt.Errorf("keep logs: %w", err)
	}
	say("%s: the logs of the instances are in %s", sc.name, dir)
	for _, i := range f.instances {
		text, err := os.ReadFile(i.program.LogPath)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, i.address+".log"), text, 0o600)
		}
		if err != nil {
			return fmt.Errorf("keep logs: %w", err)
		}
	}
	return nil
}

// poolSettings make the service open new connections all the time, which is when
// PostgreSQL asks for a password.
const poolSettings = "?pool_max_conns=8&pool_min_idle_conns=2&pool_max_conn_lifetime=2s&pool_max_conn_lifetime_jitter=2s&pool_health_check_period=500ms&sslmode=disable"

// newFleet starts the service of a scenario. What it returns needs a stop also
// when there is an error.
func (s *site) newFleet(ctx context.Context, sc scenario, e engine) (*fleet, error) {
	dir, err := os.MkdirTemp("", "smvm-load-")
	if err != nil {
		return &fleet{}, fmt.Errorf("make directory: %w", err)
	}
	f := &fleet{dir: dir}
	for range sc.instances {
		i, err := s.newInstance(ctx, sc)
		if err != nil {
			return f, err
		}
		f.instances = append(f.instances, i)
	}
	if err := e.deliver(ctx, f); err != nil {
		return f, err
	}
	for _, i := range f.instances {
		if err := i.start(ctx); err != nil {
			return f, err
		}
	}
	return f, nil
}

// newInstance prepares one that does not know yet where its credentials are.
func (s *site) newInstance(ctx context.Context, sc scenario) (*instance, error) {
	address, err := testenv.FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	if sc.python {
		_, port, _ := net.SplitHostPort(address)
		return &instance{
			address: address, binary: s.python, args: []string{"-m", "smvm.main", "--port", port},
			env: []string{"PYTHONPATH=" + filepath.Join(s.root, "bootstrap/apps/python"), "PYTHONDONTWRITEBYTECODE=1"},
		}, nil
	}
	database := fmt.Sprintf("postgres:///%s%s&host=%s&port=%d", sc.database(), poolSettings, s.primary.SocketDir(), s.primary.Port)
	if sc.pooler {
		database = fmt.Sprintf("postgres://%s:%d/%s%s", s.primary.Host, s.poolerPort, sc.database(), poolSettings)
	}
	return &instance{address: address, binary: s.service, args: []string{"-listen", address, "-database", database, fmt.Sprintf("-retry=%t", sc.retry)}}, nil
}

// deliver implements engine: the service logs in by itself, or an Agent does.
func (m *mount) deliver(ctx context.Context, f *fleet) error {
	if err := m.enroll(ctx, f.dir); err != nil {
		return err
	}
	if m.agent {
		return m.startAgent(ctx, f, strings.NewReplacer("smvm/creds", m.path+"/creds"), "restart")
	}
	for _, i := range f.instances {
		i.args = append(i.args, "--path", m.path+"/creds/default")
		i.env = append(i.env, "VAULT_ADDR="+m.address, "SMVM_ROLE_ID_FILE="+f.dir+"/role_id", "SMVM_SECRET_ID_FILE="+f.dir+"/secret_id")
	}
	return nil
}

// shippedCommand is what the shipped Agent runs when it has rendered other values.
const shippedCommand = `"/bin/sh", "-c", "touch /run/smvm-api/changed || :"`

// startAgent starts a Vault Agent with the shipped configuration, changed by
// replace. It renders the files, and then has roll.sh reload the instances or
// restart them, one after the other.
func (w *world) startAgent(ctx context.Context, f *fleet, replace *strings.Replacer, action string) error {
	control, err := f.startControl(ctx)
	if err != nil {
		return err
	}
	command := fmt.Sprintf(`"%s/roll.sh", "-restart", "curl -fsS -X POST %s/%s/$PORT"`, f.dir, control, action)
	for _, i := range f.instances {
		i.args = append(i.args, "-from", "files", "-dir", f.dir, "-drain", "2s")
		_, port, _ := net.SplitHostPort(i.address)
		command += `, "` + port + `"`
	}
	installed := strings.NewReplacer(shippedCommand, command, `"10s"`, `"120s"`, "/etc/smvm-api", f.dir, "/var/lib/smvm-api", f.dir)
	if err := copyTree(filepath.Join(w.root, "bootstrap", "apps", "agent"), f.dir, func(text string) string {
		return installed.Replace(replace.Replace(text))
	}); err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(f.dir, "agent.hcl"))
	if err == nil && !strings.Contains(string(config), command) {
		err = fmt.Errorf("agent.hcl does not run %s after a change", shippedCommand)
	}
	if err != nil {
		return err
	}
	f.agent, err = testenv.StartProgram(ctx, []string{"VAULT_ADDR=" + w.address}, w.cluster.Nodes[0].Binary, "agent", "-config="+filepath.Join(f.dir, "agent.hcl"))
	if err != nil {
		return err
	}
	err = eventually(ctx, "the Agent to render", func(context.Context) error {
		_, env := os.Stat(filepath.Join(f.dir, ".env"))
		_, secrets := os.Stat(filepath.Join(f.dir, "config", "secrets.yaml"))
		return errors.Join(env, secrets)
	})
	if err != nil {
		return fmt.Errorf("%w; its log ends: %s", err, f.agent.LogTail())
	}
	return nil
}

// startControl serves what systemctl would do: POST /restart/<port> and
// /reload/<port>.
func (f *fleet) startControl(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	f.control = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, i := range f.instances {
			action, port, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			if !strings.HasSuffix(i.address, ":"+port) || i.program == nil {
				continue
			}
			if err := i.control(ctx, action); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
	})}
	go f.control.Serve(listener) //nolint:errcheck // until it is closed
	return "http://" + listener.Addr().String(), nil
}

// copyTree copies text files, each changed.
func copyTree(from, to string, change func(string) string) error {
	if err := os.MkdirAll(filepath.Join(to, "config"), 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err != nil || entry.IsDir() {
			return errors.Join(err, os.MkdirAll(target, 0o700))
		}
		text, err := os.ReadFile(path) //nolint:gosec // our own
		return errors.Join(err, testenv.WriteProgram(target, []byte(change(string(text))), 0o700))
	})
}

// eventually polls to a deadline that only a fault can reach.
func eventually(ctx context.Context, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return testenv.Eventually(ctx, what, check)
}
