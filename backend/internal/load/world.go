package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// world is what all runs share: three Vault nodes behind one address, a
// PostgreSQL, and what the services are run with.
type world struct {
	root     string
	cluster  *testenv.Cluster
	postgres *testenv.Postgres
	service  string // the binary of cmd/smvm-api
	python   string
	front    *http.Server
	address  string // of the front
	client   *api.Client
}

// postgresSettings make the log tell who came over the Unix socket. That is the
// service; the engine, which also proves that retired logins are refused, comes
// over TCP.
var postgresSettings = map[string]string{"max_connections": "200", "log_line_prefix": "%m [%p] %u@%d %h "}

// newWorld starts everything. What it returns needs a stop also when there is an
// error.
func newWorld(ctx context.Context) (w *world, err error) {
	w = &world{}
	if w.root, err = testenv.Root(); err != nil {
		return w, err
	}
	say("starting PostgreSQL and three Vault nodes, building the plugin and the service")
	if w.service, err = testenv.BuildCommand(ctx, "smvm-api", testenv.BuildOptions{}); err != nil {
		return w, err
	}
	if w.python, err = testenv.Python(ctx); err != nil {
		return w, err
	}
	if w.postgres, err = testenv.StartPostgres(ctx, testenv.PostgresOptions{Settings: postgresSettings}); err != nil {
		return w, err
	}
	if w.cluster, err = testenv.StartCluster(ctx, testenv.ClusterOptions{}); err != nil {
		return w, err
	}
	plugin, err := testenv.BuildPlugin(ctx, testenv.BuildOptions{})
	if err == nil {
		err = w.cluster.RegisterPlugin(ctx, plugin, "")
	}
	if err == nil {
		err = w.startFront(ctx)
	}
	return w, err
}

func (w *world) stop() error {
	var err error
	if w.front != nil {
		err = w.front.Close()
	}
	return errors.Join(err, w.cluster.Stop(), w.postgres.Stop())
}

// startFront serves the cluster at one address, as a load balancer would.
func (w *world) startFront(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	w.front = &http.Server{Handler: newFront(w.cluster), ReadHeaderTimeout: 5 * time.Second}
	go w.front.Serve(listener) //nolint:errcheck // until it is closed
	w.address = "http://" + listener.Addr().String()
	config := api.DefaultConfig()
	config.Address = w.address
	if w.client, err = api.NewClient(config); err != nil {
		return fmt.Errorf("make Vault client: %w", err)
	}
	w.client.SetToken(w.cluster.RootToken)
	w.client.SetMaxRetries(0) // see operate
	return nil
}

// engine is what rotates in a run, and how its values get to the service.
type engine interface {
	// deliver completes the arguments of the service's instances, and starts an
	// Agent where one is needed.
	deliver(ctx context.Context, f *fleet) error
	// operate rotates or rolls back, and returns when it was done.
	operate(ctx context.Context, operation string) (time.Time, error)
	// creds reads what the service is to use.
	creds(ctx context.Context) (credentials, error)
}

// mount is this engine with one role, default, on users of its own.
type mount struct {
	*site
	path  string
	agent bool
}

// newMount sets up the engine as an operator would.
func (s *site) newMount(ctx context.Context, sc scenario) (*mount, error) {
	m := &mount{site: s, path: "smvm-" + sc.name, agent: sc.agent}
	users := []string{sc.user("a")}
	if sc.strategy == "alternating_users" {
		users = append(users, sc.user("b"))
	}
	if err := s.prepareDatabase(ctx, sc, users); err != nil {
		return nil, err
	}
	if sc.pooler {
		if err := s.startPooler(ctx, sc); err != nil {
			return nil, err
		}
	}
	if err := s.cluster.Enable(ctx, m.path, ""); err != nil {
		return nil, err
	}
	connection := map[string]any{
		"database": sc.database(), "sslmode": "disable", "username": sc.user("admin"), "password": adminPassword, "allowed_roles": "default",
	}
	maps.Copy(connection, s.connection(sc))
	for _, step := range []struct {
		path string
		data map[string]any
	}{
		{"connections/main", connection},
		{"rotate-root/main", nil},
		{"roles/default", map[string]any{"rotation_period": "24h", "overlap": "30s", "refresh_interval": "1s"}},
		{"secrets/default/db", map[string]any{
			"type": "database", "connection": "main", "rotation_strategy": sc.strategy, "usernames": users,
			"verification_statements": "SELECT 1",
		}},
		{"secrets/default/jwt", map[string]any{"type": "jwt"}},
		{"secrets/default/api", map[string]any{"type": "api_key"}},
	} {
		if _, err := s.client.Logical().WriteWithContext(ctx, m.path+"/"+step.path, step.data); err != nil {
			return nil, fmt.Errorf("write %s: %w", step.path, err)
		}
	}
	return m, nil
}

// adminPassword is replaced by rotate-root before anything else happens.
const adminPassword = "first-password-0123456789"

// prepareDatabase makes a database, an administrator for the engine, and users
// that share an owner.
func (s *site) prepareDatabase(ctx context.Context, sc scenario, users []string) error {
	admin, owner := sc.user("admin"), sc.user("owner")
	statements := []string{
		"CREATE ROLE " + admin + " LOGIN CREATEROLE PASSWORD '" + adminPassword + "'",
		"CREATE ROLE " + owner + " NOLOGIN",
		"CREATE DATABASE " + sc.database() + " OWNER " + owner,
	}
	for _, user := range users {
		statements = append(statements, "CREATE ROLE "+user+" LOGIN IN ROLE "+owner,
			"ALTER ROLE "+user+" SET role = '"+owner+"'",
			"GRANT "+user+" TO "+admin+" WITH ADMIN OPTION")
	}
	for _, statement := range statements {
		if err := s.primary.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// enroll makes an AppRole login for the role, in dir.
func (m *mount) enroll(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(m.root, "bootstrap/apps/agent/enroll.sh"), "-path", m.path, "-name", m.path, "-instance", filepath.Base(dir), "-dir", dir, "default") //nolint:gosec // our own script
	binary := m.cluster.Nodes[0].Binary
	cmd.Env = []string{"PATH=" + filepath.Dir(binary) + ":/usr/bin:/bin", "VAULT_ADDR=" + m.address, "VAULT_TOKEN=" + m.cluster.RootToken, "HOME=" + dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("enroll: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
