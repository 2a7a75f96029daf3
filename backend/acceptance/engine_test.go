package acceptance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/xdg-go/scram"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// engine is one mount of the plugin, with a database of its own.
type engine struct {
	*testing.T
	vault    *testenv.Vault
	postgres *testenv.Postgres
	client   *api.Client
	// path is the mount, prefix what the names of this test's users begin with.
	path, prefix string
}

// newEngine mounts the plugin in the shared Vault.
func newEngine(t *testing.T) *engine {
	t.Helper()
	return mount(t, shared.vault, shared.postgres)
}

// newOwnEngine mounts it in servers that the test may break.
func newOwnEngine(t *testing.T) *engine {
	t.Helper()
	v := testenv.NewVault(t, testenv.VaultOptions{})
	if err := v.RegisterPlugin(t.Context(), shared.plugin, ""); err != nil {
		t.Fatal(err)
	}
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: talkative})
	inspectAfter(t, v, pg)
	return mount(t, v, pg)
}

func mount(t *testing.T, v *testenv.Vault, pg *testenv.Postgres) *engine {
	t.Helper()
	return mountAs(t, v, pg, t.Name())
}

// mountAs is mount for a test that needs several engines.
func mountAs(t *testing.T, v *testenv.Vault, pg *testenv.Postgres, name string) *engine {
	t.Helper()
	prefix := strings.ToLower(strings.NewReplacer("/", "_", "Test", "").Replace(name))
	client, err := recorded(v.Client)
	if err != nil {
		t.Fatal(err)
	}
	rememberServers(v, pg)
	e := &engine{T: t, vault: v, postgres: pg, client: client, path: "smvm-" + prefix, prefix: prefix}
	if err := v.Enable(t.Context(), e.path, ""); err != nil {
		t.Fatal(err)
	}
	return e
}

// user is the full name of one of this test's PostgreSQL users.
func (e *engine) user(name string) string { return e.prefix + "_" + name }

// sql runs statements as the superuser; {p} stands for the test's prefix.
func (e *engine) sql(statements ...string) {
	e.Helper()
	conn, err := e.postgres.Connect(e.Context(), "postgres", nil)
	if err != nil {
		e.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	for _, s := range statements {
		if _, err := conn.Exec(e.Context(), strings.ReplaceAll(s, "{p}", e.prefix)); err != nil {
			e.Fatalf("run SQL: %v", err)
		}
	}
}

// connect makes an administrator with no more rights than it needs, users for it
// to manage, and the connection.
func (e *engine) connect(users ...string) {
	e.Helper()
	password := "admin-" + e.prefix + "-0123456789"
	e.sql("CREATE ROLE {p}_admin LOGIN CREATEROLE PASSWORD '"+verifier(e.T, password)+"'",
		"CREATE ROLE {p}_owner NOLOGIN", "CREATE TABLE {p}_orders (id int)", "ALTER TABLE {p}_orders OWNER TO {p}_owner")
	for _, user := range users {
		e.addUser(user)
	}
	e.write("connections/main", e.connection(password))
}

func (e *engine) addUser(user string) {
	e.Helper()
	e.sql("CREATE ROLE {p}_"+user+" LOGIN IN ROLE {p}_owner", "ALTER ROLE {p}_"+user+" SET role = '{p}_owner'")
	if e.postgres.Version >= 160000 {
		e.sql("GRANT {p}_" + user + " TO {p}_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
	}
}

func (e *engine) connection(password string) map[string]any {
	remember(password)
	sslmode := "disable"
	if e.postgres.CAPEM != "" {
		sslmode = "verify-full"
	}
	return map[string]any{
		"connection_url": fmt.Sprintf("postgresql://{{username}}:{{password}}@%s:%d/postgres?sslmode=%s", e.postgres.Host, e.postgres.Port, sslmode),
		"username":       e.user("admin"), "password": password, "tls_ca": e.postgres.CAPEM,
		"allowed_roles": "*",
	}
}

// orders is the role default with a database, a JWT key and an API key.
func (e *engine) orders(strategy string, policy map[string]any) {
	e.Helper()
	users := []string{"a"}
	if strategy == "alternating_users" {
		users = []string{"a", "b"}
	}
	e.connect(users...)
	e.write("roles/default", policy)
	for i, user := range users {
		users[i] = e.user(user)
	}
	e.write("secrets/default/db", map[string]any{
		"type": "database", "connection": "main", "rotation_strategy": strategy, "usernames": users,
		"verification_statements": []string{"SELECT count(*) FROM " + e.prefix + "_orders"},
	})
	e.write("secrets/default/jwt", map[string]any{"type": "jwt"})
	e.write("secrets/default/api", map[string]any{"type": "api_key"})
}

// try sends a write. It waits for an operation to end, unless the data says how long to
// wait: what the test does next may need that.
func (e *engine) try(path string, data map[string]any) (map[string]any, error) {
	operation, _, _ := strings.Cut(path, "/")
	if _, says := data["wait"]; !says && slices.Contains([]string{"rotate", "rotate-root", "rollback", "retire"}, operation) {
		waits := map[string]any{"wait": 60}
		maps.Copy(waits, data)
		data = waits
	}
	resp, err := e.client.Logical().WriteWithContext(e.Context(), e.path+"/"+path, data)
	if err != nil || resp == nil {
		return nil, err
	}
	return resp.Data, nil
}

func (e *engine) write(path string, data map[string]any) map[string]any {
	e.Helper()
	answer, err := e.try(path, data)
	if err != nil {
		e.Fatal(err)
	}
	return answer
}

// refused sends a write that must be answered with that status, and returns the
// text of the error.
func (e *engine) refused(status int, path string, data map[string]any) string {
	e.Helper()
	_, err := e.try(path, data)
	var refusal *api.ResponseError
	if !errors.As(err, &refusal) {
		e.Fatalf("write %s: want status %d, got %v", path, status, err)
	}
	if refusal.StatusCode != status {
		e.Fatalf("write %s: want status %d, got %d: %v", path, status, refusal.StatusCode, refusal.Errors)
	}
	return strings.Join(refusal.Errors, "\n")
}

func (e *engine) read(path string, query ...string) map[string]any {
	e.Helper()
	parameters := map[string][]string{}
	for i := 0; i+1 < len(query); i += 2 {
		parameters[query[i]] = []string{query[i+1]}
	}
	resp, err := e.client.Logical().ReadWithDataWithContext(e.Context(), e.path+"/"+path, parameters)
	if err != nil {
		e.Fatal(err)
	}
	if resp == nil {
		e.Fatalf("read %s: there is nothing", path)
	}
	return resp.Data
}

// creds reads the values of the default role.
func (e *engine) creds(query ...string) map[string]any {
	e.Helper()
	return e.read("creds", query...)
}

// login tries a user name and password at PostgreSQL.
func (e *engine) login(creds map[string]any) error {
	e.Helper()
	var one int
	return e.query(e.postgres.DSN(text(creds, "db_username"), text(creds, "db_password"), "postgres"), "SELECT 1", &one)
}

func (e *engine) query(dsn, sql string, target any) error {
	ctx, cancel := context.WithTimeout(e.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing depends on it
	return conn.QueryRow(ctx, sql).Scan(target)
}

// works fails the test unless the login of the creds works.
func (e *engine) works(creds map[string]any) {
	e.Helper()
	if err := e.login(creds); err != nil {
		e.Errorf("what creds answers as version %v does not work: %v", creds["version"], err)
	}
}

// dead fails the test unless PostgreSQL refuses the login of the creds.
func (e *engine) dead(creds map[string]any) {
	e.Helper()
	var refusal *pgconn.PgError
	if err := e.login(creds); !errors.As(err, &refusal) || refusal.Code != "28P01" {
		e.Errorf("the login of version %v is not refused: %v", creds["version"], err)
	}
}

// eventually polls until the condition holds, to a deadline.
func (e *engine) eventually(what string, timeout time.Duration, check func(ctx context.Context) error) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), timeout)
	defer cancel()
	if err := testenv.Eventually(ctx, what, check); err != nil {
		e.Fatal(err)
	}
}

// history checks that the default role's history is complete, and returns it.
func (e *engine) history() []map[string]any {
	e.Helper()
	if h := e.read("history/default"); h["chain_valid"] != true {
		e.Errorf("history is not complete: %v", h["problem"])
	}
	resp, err := e.client.Logical().ListWithContext(e.Context(), e.path+"/history/default")
	if err != nil {
		e.Fatal(err)
	}
	var records []map[string]any
	for _, id := range resp.Data["keys"].([]any) {
		records = append(records, e.read("history/default/"+id.(string)))
	}
	return records
}

func text(data map[string]any, name string) string {
	s, _ := data[name].(string)
	return s
}

func number(t testing.TB, data map[string]any, name string) int64 {
	t.Helper()
	n, ok := data[name].(json.Number)
	if !ok {
		t.Fatalf("%s is %T, not a number", name, data[name])
	}
	i, err := n.Int64()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// verifier is what PostgreSQL stores for a password, so that a test can set one
// without the password reaching the server's log.
func verifier(t testing.TB, password string) string {
	t.Helper()
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		t.Fatal(err)
	}
	const iterations = 4096
	salt := "0123456789abcdef"
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt, Iters: iterations})
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode([]byte(salt)), encode(stored.StoredKey), encode(stored.ServerKey))
}

// The statuses of answers.
const (
	badRequest    = http.StatusBadRequest
	conflict      = http.StatusConflict
	unprocessable = http.StatusUnprocessableEntity
)
