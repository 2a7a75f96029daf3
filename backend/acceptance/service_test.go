package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// service is one running smvm-api.
type service struct {
	*testing.T
	*testenv.Program
	address string
}

// freeAddress returns an address of this machine that nothing listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := testenv.FreeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// launch starts a program that ends with the test, and that must not log any
// secret.
func launch(t *testing.T, env []string, name string, args ...string) *testenv.Program {
	t.Helper()
	p := testenv.NewProgram(t, env, name, args...)
	t.Cleanup(func() {
		log, err := os.ReadFile(p.LogPath)
		if err != nil {
			t.Error(err)
		}
		for _, wrong := range newScanner().report(name, log) {
			t.Error(wrong)
		}
	})
	return p
}

// serviceBinary builds cmd/smvm-api.
func serviceBinary(t *testing.T) string {
	t.Helper()
	binary, err := testenv.BuildCommand(t.Context(), "smvm-api", testenv.BuildOptions{Race: true})
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// startService starts smvm-api on the default role of the engine.
func (e *engine) startService(env []string, args ...string) *service {
	e.Helper()
	s := &service{T: e.T, address: freeAddress(e.T)}
	env = append([]string{"VAULT_ADDR=" + e.vault.Address}, env...)
	args = append([]string{"-listen", s.address, "-path", e.path + "/creds/default"}, args...)
	s.Program = launch(e.T, env, serviceBinary(e.T), args...)
	e.serving(s)
	return s
}

func (e *engine) serving(s *service) {
	e.Helper()
	e.eventually("smvm-api to serve", 30*time.Second, func(context.Context) error {
		_, err := s.try(http.MethodGet, "/health", "", "")
		return err
	})
}

// try sends a request with one header, and returns the answer if it is 200.
func (s *service) try(method, path, header, value string) (map[string]any, error) {
	request, err := http.NewRequestWithContext(s.Context(), method, "http://"+s.address+path, nil)
	if err != nil {
		return nil, err
	}
	if header != "" {
		request.Header.Set(header, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	_ = json.Unmarshal(body, &answer) // metrics are text
	if response.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s %s answers %d: %v", method, path, response.StatusCode, answer)
	}
	return answer, nil
}

// accepts fails the test unless the API key is accepted, and returns a token.
func (s *service) accepts(key string) string {
	s.Helper()
	answer, err := s.try(http.MethodPost, "/api/token", "X-API-Key", key)
	if err != nil {
		s.Fatal(err)
	}
	token := text(answer, "token")
	remember(token)
	return token
}

// reaches waits until the service uses a version of the credentials.
func (e *engine) reaches(s *service, version int64, within time.Duration) {
	e.Helper()
	e.eventually(fmt.Sprintf("version %d in smvm-api", version), within, func(context.Context) error {
		health, err := s.try(http.MethodGet, "/health", "", "")
		if err == nil && health["version"] != float64(version) {
			err = fmt.Errorf("it uses version %v", health["version"])
		}
		return err
	})
}

// approle makes by hand what enroll.sh makes of an instance whose name does not matter: an
// AppRole with the shipped policy, and the two files.
func (e *engine) approle() (roleIDFile, secretIDFile string) {
	e.Helper()
	vault, ctx, dir := e.vault.Client, e.Context(), e.TempDir()
	name := e.path + "-" + filepath.Base(dir)
	if err := vault.Sys().PutPolicyWithContext(ctx, name, strings.ReplaceAll(e.policy(application), `"smvm/`, `"`+e.path+"/")); err != nil {
		e.Fatal(err)
	}
	if err := vault.Sys().EnableAuthWithOptionsWithContext(ctx, "approle", &api.EnableAuthOptions{Type: "approle"}); err != nil && !strings.Contains(err.Error(), "path is already in use") {
		e.Fatal(err)
	}
	at := "auth/approle/role/" + name
	if _, err := vault.Logical().WriteWithContext(ctx, at, map[string]any{"token_policies": name, "token_period": "1h"}); err != nil {
		e.Fatal(err)
	}
	roleID, err := vault.Logical().ReadWithContext(ctx, at+"/role-id")
	if err != nil {
		e.Fatal(err)
	}
	secretID, err := vault.Logical().WriteWithContext(ctx, at+"/secret-id", nil)
	if err != nil {
		e.Fatal(err)
	}
	roleIDFile, secretIDFile = filepath.Join(dir, "role_id"), filepath.Join(dir, "secret_id")
	for file, text := range map[string]string{roleIDFile: text(roleID.Data, "role_id"), secretIDFile: text(secretID.Data, "secret_id")} {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			e.Fatal(err)
		}
	}
	e.loggingIn(roleIDFile, secretIDFile)
	return roleIDFile, secretIDFile
}

// loginOf gives an instance its AppRole login for the default role, with the shipped
// policy, and returns what the service needs to use it.
func (e *engine) loginOf(instance string) (roleIDFile, secretIDFile string) {
	e.Helper()
	dir := e.TempDir()
	if said, err := e.enroll(e.vault.RootToken, "-name", e.path, "-instance", instance, "-dir", dir, "default"); err != nil {
		e.Fatalf("enroll: %v: %s", err, said)
	}
	roleIDFile, secretIDFile = filepath.Join(dir, "role_id"), filepath.Join(dir, "secret_id")
	for _, file := range []string{roleIDFile, secretIDFile} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			e.Fatalf("%s is not there with mode 0600: %v", file, err)
		}
	}
	e.loggingIn(roleIDFile, secretIDFile)
	return roleIDFile, secretIDFile
}

// loggingIn remembers the secret of a login, and says what Vault makes of the login if the
// test fails.
func (e *engine) loggingIn(roleIDFile, secretIDFile string) {
	e.Helper()
	secretID, err := os.ReadFile(secretIDFile)
	if err != nil {
		e.Fatal(err)
	}
	remember(strings.TrimSpace(string(secretID)))
	e.Cleanup(func() {
		if e.Failed() {
			e.Logf("what Vault makes of the login in %s: %s", filepath.Dir(secretIDFile), e.loginSeen(roleIDFile, secretIDFile))
		}
	})
}

// loginSeen is what there is to know of a login when a test has failed: a service that
// Vault refuses has a 403, which does not say why.
func (e *engine) loginSeen(roleIDFile, secretIDFile string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.Context()), 10*time.Second)
	defer cancel()
	root := e.vault.Client
	var seen []string
	note := func(what string, s *api.Secret, err error, fields ...string) {
		answer := map[string]any{}
		for _, field := range fields {
			if s != nil {
				answer[field] = s.Data[field]
			}
		}
		seen = append(seen, fmt.Sprintf("%s: %v, %v", what, answer, err))
	}
	locked, err := root.Logical().ReadWithContext(ctx, "sys/locked-users")
	note("locked out", locked, err, "total", "by_namespace")
	user, err := root.Clone()
	if err != nil {
		return err.Error()
	}
	roleID, _ := os.ReadFile(roleIDFile)
	secretID, _ := os.ReadFile(secretIDFile)
	login, err := user.Logical().WriteWithContext(ctx, "auth/approle/login", map[string]any{
		"role_id": strings.TrimSpace(string(roleID)), "secret_id": strings.TrimSpace(string(secretID)),
	})
	note("a login now", login, err)
	if err != nil {
		return strings.Join(seen, "; ")
	}
	user.SetToken(login.Auth.ClientToken)
	self, err := user.Auth().Token().LookupSelfWithContext(ctx)
	note("its token", self, err, "policies", "identity_policies", "ttl", "meta")
	_, err = user.Logical().ReadWithContext(ctx, e.path+"/creds/default")
	note("a read of creds with it", nil, err)
	return strings.Join(seen, "; ")
}

func (e *engine) approleService(args ...string) *service {
	e.Helper()
	roleID, secretID := e.approle()
	return e.serviceOf(roleID, secretID, args...)
}

func (e *engine) serviceOf(roleIDFile, secretIDFile string, args ...string) *service {
	e.Helper()
	return e.startService([]string{"SMVM_ROLE_ID_FILE=" + roleIDFile, "SMVM_SECRET_ID_FILE=" + secretIDFile}, args...)
}

// traffic sends requests of every kind until stopped, and keeps what became of each.
type traffic struct {
	engine  *engine
	service *service
	key     atomic.Pointer[string]
	pace    time.Duration // between two requests of a client
	mu      sync.Mutex
	answers []answered
	used    [4]atomic.Pointer[string] // of each client, the key of its last request
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// answered is one request that was sent.
type answered struct {
	began, ended time.Time
	err          error
}

// begin has several clients use the service, each with a token of its own: some 250
// requests a second, which leave time to the tests beside.
func (e *engine) begin(s *service) *traffic { return e.beginAt(s, 15*time.Millisecond) }

// beginAt is begin with a pause between two requests of a client.
func (e *engine) beginAt(s *service, pace time.Duration) *traffic {
	ctx, stop := context.WithCancel(e.Context())
	tr := &traffic{engine: e, service: s, pace: pace, stop: stop}
	tr.offer(e.creds())
	for i := range tr.used {
		tr.done.Go(func() {
			var key *string
			var token string
			for n := i; ctx.Err() == nil; n++ {
				if newest := tr.key.Load(); newest != key {
					key, token = newest, s.accepts(*newest)
				}
				tr.request(s, n, *key, token)
				tr.used[i].Store(key)
				time.Sleep(tr.pace)
			}
		})
	}
	return tr
}

// follow gives the clients the newest API key and a token of the newest key, as a client
// of an application gets them within the overlap: a third rotation ends the first ones for
// good. It returns when all of them use these.
func (tr *traffic) follow(creds map[string]any) {
	tr.engine.Helper()
	tr.offer(creds)
	tr.engine.eventually("the clients to use the new key", time.Minute, func(context.Context) error {
		for i := range tr.used {
			if tr.used[i].Load() != tr.key.Load() {
				return fmt.Errorf("client %d does not", i)
			}
		}
		return nil
	})
}

// offer has the clients use these, each from its next request.
func (tr *traffic) offer(creds map[string]any) {
	tr.engine.Helper()
	key := text(creds, "api_key")
	tr.engine.signs(tr.service, key, text(creds, "jwt_kid"))
	tr.key.Store(&key)
}

// signs waits until the service signs with a key, which is one refresh after it has read it.
func (e *engine) signs(s *service, apiKey, kid string) {
	e.Helper()
	e.eventually("the service to sign with the new key", 2*time.Minute, func(context.Context) error {
		token, _, err := jwt.NewParser().ParseUnverified(s.accepts(apiKey), jwt.MapClaims{})
		if err == nil && token.Header["kid"] != kid {
			err = errors.New("it signs with another one")
		}
		return err
	})
}

func (tr *traffic) request(s *service, n int, key, token string) {
	method := []string{http.MethodGet, http.MethodPost}[n%2]
	header, value := "X-API-Key", key
	if n/2%2 == 0 {
		header, value = "Authorization", "Bearer "+token
	}
	began := time.Now()
	_, err := s.try(method, "/api/test", header, value)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.answers = append(tr.answers, answered{began, time.Now(), err})
}

// all returns the requests that have been answered, in that order.
func (tr *traffic) all() []answered {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.answers)
}

// end stops the requests; none may have failed.
func (tr *traffic) end(t *testing.T) {
	t.Helper()
	tr.stop()
	tr.done.Wait()
	var failures []error
	for _, a := range tr.answers {
		if a.err != nil {
			failures = append(failures, a.err)
		}
	}
	t.Logf("%d requests, %d failed", len(tr.answers), len(failures))
	if len(failures) > 0 || len(tr.answers) == 0 {
		t.Errorf("of %d requests %d failed: %v", len(tr.answers), len(failures), failures[:min(3, len(failures))])
	}
}
