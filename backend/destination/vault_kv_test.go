package destination

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// shared is the Vault of all tests, each of which has a KV engine of its own.
var shared *testenv.Vault

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	shared, err = testenv.StartVault(context.Background(), testenv.VaultOptions{})
	if err == nil {
		err = shared.Client.Sys().EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return m.Run()
}

// kv is a KV engine of a real Vault, with the policy that is shipped and an AppRole
// that has it.
type kv struct {
	mount            string
	roleID, secretID string
}

var mounts atomic.Int64

func newKV(t *testing.T) held {
	t.Helper()
	k := &kv{mount: fmt.Sprintf("kv-%d", mounts.Add(1))}
	k.check(t, shared.Client.Sys().MountWithContext(t.Context(), k.mount, &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}))
	policy, err := os.ReadFile("../../bootstrap/operate/destinations/vault-kv.hcl")
	k.check(t, err)
	text := strings.NewReplacer(`"secret/`, `"`+k.mount+"/", "/smvm/", "/orders/").Replace(string(policy))
	k.check(t, shared.Client.Sys().PutPolicyWithContext(t.Context(), k.mount, text))
	k.call(t, "auth/approle/role/"+k.mount, map[string]any{"token_policies": k.mount, "token_ttl": "1m"})
	id, err := shared.Client.Logical().ReadWithContext(t.Context(), "auth/approle/role/"+k.mount+"/role-id")
	k.check(t, err)
	k.roleID = id.Data["role_id"].(string)
	k.secretID = k.call(t, "auth/approle/role/"+k.mount+"/secret-id", nil).Data["secret_id"].(string)
	return k
}

func (k *kv) check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (k *kv) call(t *testing.T, path string, data map[string]any) *api.Secret {
	t.Helper()
	secret, err := shared.Client.Logical().WriteWithContext(t.Context(), path, data)
	k.check(t, err)
	return secret
}

func (k *kv) address() string { return shared.Address }

func (k *kv) target(_ *testing.T, address string) Target {
	return &VaultKV{Address: address, Mount: k.mount, RoleID: k.roleID, SecretID: k.secretID}
}

func (k *kv) value(t *testing.T, name string) (string, int) {
	t.Helper()
	found, err := shared.Client.KVv2(k.mount).Get(t.Context(), name)
	if err != nil {
		return "", 0
	}
	value, _ := found.Data["value"].(string)
	return value, found.VersionMetadata.Version
}

func (k *kv) put(t *testing.T, name, value string) {
	t.Helper()
	_, err := shared.Client.KVv2(k.mount).Put(t.Context(), name, map[string]any{"value": value})
	k.check(t, err)
}

func (k *kv) secrets() []string { return []string{k.secretID} }

func (k *kv) full() answer {
	return answer{status: 507, body: `{"errors":["no space left on device"]}`}
}

func (k *kv) denied() answer {
	return answer{status: 403, body: `{"errors":["1 error occurred: permission denied"]}`}
}

func (k *kv) reads() bool { return true }

// TestKVDeleted deletes and destroys what was published: that is drift, and is
// published again.
func TestKVDeleted(t *testing.T) {
	t.Parallel()
	k := newKV(t).(*kv)
	s := &suite{T: t, held: k, to: k.target(t, shared.Address)}
	s.must(copyAt(1))
	kv := shared.Client.KVv2(k.mount)
	for i, remove := range []func() error{
		func() error { return kv.Delete(t.Context(), password) },
		func() error { return kv.Destroy(t.Context(), password, []int{2}) },
		func() error { return kv.DeleteMetadata(t.Context(), password) },
	} {
		k.check(t, remove())
		s.differs(copyAt(1), []string{"was deleted", "was deleted", "is missing"}[i])
		s.must(copyAt(1))
		s.differs(copyAt(1), "")
	}
}

// TestKVKeepsWhatOthersAdd leaves other keys and other custom metadata in place.
func TestKVKeepsWhatOthersAdd(t *testing.T) {
	t.Parallel()
	k := newKV(t).(*kv)
	s := &suite{T: t, held: k, to: k.target(t, shared.Address)}
	s.must(copyAt(1))
	kv := shared.Client.KVv2(k.mount)
	_, err := kv.Patch(t.Context(), password, map[string]any{"comment": "the team's"})
	k.check(t, err)
	k.check(t, kv.PatchMetadata(t.Context(), password, api.KVMetadataPatchInput{CustomMetadata: map[string]any{"team": "orders"}}))
	s.must(copyAt(2))
	found, err := kv.Get(t.Context(), password)
	k.check(t, err)
	if found.Data["comment"] != "the team's" || found.CustomMetadata["team"] != "orders" || found.CustomMetadata[ownerKey] != "mount/orders" || found.Data["version"] != "2" {
		t.Errorf("there is %v, %v", found.Data, found.CustomMetadata)
	}
}

// TestKVKeepsWhatOthersHave publishes into secrets that others have made: what they
// have there is sent back as it was answered, byte for byte, whatever it is and however
// deep. The KV engine of today rounds numbers when it is read, so in between answers
// one that does not.
func TestKVKeepsWhatOthersHave(t *testing.T) {
	t.Parallel()
	k := newKV(t).(*kv)
	exact := &exactKV{key: "account"}
	front := newFront(t, shared.Address)
	front.set(exact.answer)
	s := &suite{T: t, held: k, front: front, to: k.target(t, front.URL)}
	for i, value := range []string{
		`9007199254740993`, `-9223372036854775809`, `123456789012345678901234567890`, `1.10`, `0.1000000000000000055511151231257827`,
		`1e400`, `1E+2`, `-0`, `true`, `null`, `""`, `[]`, `{}`, `[1,[9007199254740993,{"b":1.0,"a":[null]}]]`, `{"z":{"account":9007199254740993},"a":1,"a":2}`,
		`"\u003ca\u0026b\u003e"`, `"<a&b>"`, `"é\u00e9 \u2028  \ud83d\ude00 \ud800 \" \\ \/ \n"`, `"9007199254740993"`,
	} {
		k.put(t, password, "theirs")
		exact.value = value
		for _, version := range []int{2*i + 1, 2*i + 2} {
			c := copyWith(copyAt(version).Stamp, fmt.Sprintf("<%d> & 'a'", version))
			exact.sent = ""
			if c.Adopt = true; exact.publish(s, c) != value {
				t.Errorf("of %s version %d has sent %s", value, version, exact.sent)
			}
			if have, _ := k.value(t, password); have != c.Items[0].Value {
				t.Errorf("there is %q, want %q", have, c.Items[0].Value)
			}
		}
	}
}

// exactKV answers that a secret has a value under a key, and notes what is sent back.
type exactKV struct{ key, value, sent string }

func (e *exactKV) publish(s *suite, c Copy) string {
	c.Items = c.Items[:1]
	if err := s.to.Publish(s.Context(), here, c); err != nil {
		s.Errorf("publish %s: %v", e.value, err)
	}
	return e.sent
}

func (e *exactKV) answer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !strings.HasSuffix(r.URL.Path, "/data/"+password) {
		next.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	var written struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if json.Unmarshal(body, &written) == nil && written.Data != nil {
		e.sent = string(written.Data[e.key])
		body = []byte(strings.Replace(string(body), `"`+e.key+`":`+e.sent, `"`+e.key+`":1`, 1))
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answered := httptest.NewRecorder()
	next.ServeHTTP(answered, r)
	text := answered.Body.String()
	if r.Method == http.MethodGet {
		text = strings.Replace(text, `"data":{"data":{`, `"data":{"data":{"`+e.key+`":`+e.value+`,`, 1)
		text = strings.Replace(text, `"`+e.key+`":1,`, "", 1)
	}
	w.WriteHeader(answered.Code)
	_, _ = io.WriteString(w, text)
}

// TestKVEnvironment publishes while all variables that Vault's library knows are wrong:
// it fails at some, and others would lead it elsewhere or go along with requests.
func TestKVEnvironment(t *testing.T) {
	k := newKV(t).(*kv)
	wrong := map[string]string{
		api.EnvVaultAddress: "http://192.0.2.1", api.EnvVaultAgentAddr: "http://192.0.2.1", api.EnvVaultCACert: "/missing",
		api.EnvVaultCACertBytes: "wrong", api.EnvVaultCAPath: "/missing", api.EnvVaultClientCert: "/missing", api.EnvVaultClientKey: "/missing",
		api.EnvVaultClientTimeout: "soon", api.EnvVaultSRVLookup: "wrong", api.EnvVaultSkipVerify: "wrong", api.EnvVaultNamespace: "wrong",
		api.EnvVaultTLSServerName: "wrong", api.EnvVaultWrapTTL: "5m", api.EnvVaultMaxRetries: "wrong", api.EnvVaultToken: "wrong",
		api.EnvRateLimit: "wrong", api.EnvHTTPProxy: "http://192.0.2.1", api.EnvVaultProxyAddr: "http://192.0.2.1",
		api.EnvVaultDisableRedirects: "wrong", api.EnvVaultHeaders: `{"X-Wrong": "wrong"}`,
	}
	front := newFront(t, shared.Address)
	front.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		for _, header := range []string{"X-Wrong", "X-Vault-Namespace", "X-Vault-Wrap-TTL"} {
			if r.Header.Get(header) != "" {
				t.Errorf("%s %s has %s", r.Method, r.URL.Path, header)
			}
		}
		next.ServeHTTP(w, r)
	})
	s := &suite{T: t, held: k, front: front, to: k.target(t, front.URL)}
	t.Run("wrong", func(t *testing.T) {
		for name, value := range wrong {
			t.Setenv(name, value)
		}
		s.must(copyAt(1))
		s.differs(copyAt(1), "")
		for name, value := range wrong {
			if got := os.Getenv(name); got != value {
				t.Errorf("%s is %q afterwards", name, got)
			}
		}
	})
	s.holds(1, 1)
}

// TestKVAsksOnce makes each request once, whatever is answered, and sends it to nobody
// else.
func TestKVAsksOnce(t *testing.T) {
	t.Parallel()
	k := newKV(t).(*kv)
	front, elsewhere := newFront(t, shared.Address), newFront(t, shared.Address)
	elsewhere.set(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		t.Errorf("%s was sent elsewhere", r.URL.Path)
	})
	s := &suite{T: t, held: k, front: front, to: k.target(t, front.URL)}
	s.must(copyAt(1))
	for _, path := range []string{"/v1/auth/approle/login", "/v1/" + k.mount + "/metadata/" + password, "/v1/" + k.mount + "/data/" + password} {
		for _, status := range []int{301, 302, 303, 307, 308, 412, 429, 500, 503} {
			var asked atomic.Int64
			front.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path != path {
					next.ServeHTTP(w, r)
					return
				}
				asked.Add(1)
				w.Header().Set("Location", elsewhere.URL+path)
				w.WriteHeader(status)
			})
			s.fails(copyAt(2), status == http.StatusPreconditionFailed, fmt.Sprintf("status %d", status))
			if n := asked.Load(); n != 1 {
				t.Errorf("with status %d, %s was asked %d times", status, path, n)
			}
		}
	}
}

// TestKVNamespace is in all requests.
func TestKVNamespace(t *testing.T) {
	t.Parallel()
	k := newKV(t).(*kv)
	front := newFront(t, shared.Address)
	front.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if got := r.Header.Get("X-Vault-Namespace"); got != "team/orders" {
			t.Errorf("%s %s is for namespace %q", r.Method, r.URL.Path, got)
		}
		r.Header.Del("X-Vault-Namespace") // which the Vault of tests has none of
		next.ServeHTTP(w, r)
	})
	to := k.target(t, front.URL).(*VaultKV)
	to.Namespace = "team/orders"
	s := &suite{T: t, held: k, front: front, to: to}
	s.must(copyAt(1))
	s.holds(1, 1)
}

// TestKVTokens are revoked after each use, and what the policy lacks is named.
func TestKVTokens(t *testing.T) {
	t.Parallel()
	k := newKV(t).(*kv)
	s := &suite{T: t, held: k, to: k.target(t, shared.Address)}
	s.must(copyAt(1))
	if open := k.accessors(t); open != 0 {
		t.Errorf("%d tokens of the destination are left", open)
	}
	k.check(t, shared.Client.Sys().PutPolicyWithContext(t.Context(), k.mount, `path "`+k.mount+`/data/*" { capabilities = ["create", "read"] }`))
	if err := s.to.Preflight(t.Context(), here, names()); err == nil || !strings.Contains(err.Error(), `path "`+k.mount+`/data/orders/database-password" { capabilities = ["create", "read", "update"] }`) {
		t.Errorf("the preflight says %v", err)
	}
	k.secretID = "gone"
	s.to = k.target(t, shared.Address)
	s.fails(copyAt(2), true, "role_id and secret_id")
}

// accessors counts the tokens that there are of the AppRole.
func (k *kv) accessors(t *testing.T) (n int) {
	t.Helper()
	all, err := shared.Client.Logical().ListWithContext(t.Context(), "auth/token/accessors")
	k.check(t, err)
	for _, accessor := range all.Data["keys"].([]any) {
		token, err := shared.Client.Auth().Token().LookupAccessorWithContext(t.Context(), accessor.(string))
		if err == nil && strings.Contains(fmt.Sprint(token.Data["policies"]), k.mount+"]") {
			n++
		}
	}
	return n
}
