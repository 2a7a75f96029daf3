package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// library is a KV engine of a real Vault that the engine publishes to, and the way
// there, which can be broken.
type library struct {
	*engine
	mount string
	way   *httptest.Server
	fault atomic.Value // of type fault
}

// fault takes over a request on the way, or lets next have it.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// library makes a KV engine with the policy that is shipped, and an AppRole for it,
// and publishes the database password and the API key of the role default there.
func (e *engine) library(fields map[string]any) *library {
	e.Helper()
	l := &library{engine: e, mount: "kv-" + e.prefix}
	to, err := url.Parse(e.vault.Address)
	e.check(err)
	next := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	l.fault.Store(fault(healthy))
	l.way = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.fault.Load().(fault)(w, r, next)
	}))
	e.Cleanup(l.way.Close)
	data := map[string]any{
		"type": "vault_kv", "allowed_roles": "default", "address": l.way.URL, "mount": l.mount, "timeout": 5, "deadline": 6,
		"values": []string{"smvm/database-password={{db_password}}", "smvm/api-key={{api_key}}"},
	}
	for name, value := range l.login() {
		data[name] = value
	}
	for name, value := range fields {
		data[name] = value
	}
	e.listed()
	e.write("destinations/kv", data)
	e.write("roles/default", map[string]any{"destinations": "kv"})
	l.inSync()
	return l
}

// listed lets what is of this machine get values and credentials.
func (e *engine) listed() {
	e.Helper()
	e.write("config", map[string]any{"outbound_hosts": "127.0.0.1"})
}

func (e *engine) check(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// login sets up the KV engine and an AppRole as bootstrap/operate/destinations/ says.
func (l *library) login() map[string]any {
	l.Helper()
	client, name := l.vault.Client, l.mount
	l.check(client.Sys().MountWithContext(l.Context(), l.mount, &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}))
	root, err := testenv.Root()
	l.check(err)
	policy, err := os.ReadFile(filepath.Join(root, "bootstrap", "operate", "destinations", "vault-kv.hcl"))
	l.check(err)
	l.check(client.Sys().PutPolicyWithContext(l.Context(), name, strings.ReplaceAll(string(policy), `"secret/`, `"`+l.mount+"/")))
	l.check(client.Sys().EnableAuthWithOptionsWithContext(l.Context(), name, &api.EnableAuthOptions{Type: "approle"}))
	role := "auth/" + name + "/role/smvm"
	_, err = client.Logical().WriteWithContext(l.Context(), role, map[string]any{"token_policies": name, "token_ttl": "1m"})
	l.check(err)
	id, err := client.Logical().ReadWithContext(l.Context(), role+"/role-id")
	l.check(err)
	secret, err := client.Logical().WriteWithContext(l.Context(), role+"/secret-id", nil)
	l.check(err)
	return map[string]any{"auth_mount": name, "role_id": id.Data["role_id"], "secret_id": secret.Data["secret_id"]}
}

// held is what the KV engine holds under a name.
func (l *library) held(name string) string {
	found, err := l.vault.Client.KVv2(l.mount).Get(l.Context(), "smvm/"+name)
	if err != nil {
		return err.Error()
	}
	value, _ := found.Data["value"].(string)
	return value
}

// problem says what the KV engine holds otherwise than creds answers.
func (l *library) problem() error {
	creds := l.creds()
	for name, field := range map[string]string{"database-password": "db_password", "api-key": "api_key"} {
		if l.held(name) != creds[field] {
			return fmt.Errorf("%s is not what creds answers", name)
		}
	}
	return nil
}

// about is what status says of a destination.
func (e *engine) about(name string) map[string]any {
	e.Helper()
	all, _ := e.read("status")["destinations"].(map[string]any)
	about, _ := all[name].(map[string]any)
	return about
}

// inSync waits until the KV engine holds what creds answers, and status says so.
func (l *library) inSync() {
	l.Helper()
	l.eventually("what is published to be what is read", 90*time.Second, func(context.Context) error {
		if about := l.about("kv"); about["state"] != "in_sync" {
			return fmt.Errorf("it is %v", about)
		}
		return l.problem()
	})
}

// look makes the engine look at a destination now, which it does by itself too, but
// after a minute or an hour.
func (e *engine) look(name string) {
	e.Helper()
	e.write("destinations/"+name, map[string]any{"verify": false})
}

func healthy(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }

func writes(r *http.Request) bool {
	return r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/data/")
}

// The ways in which a destination is sick.
var sickness = map[string]fault{
	"down": func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
	"slow": func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	},
	"lying": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		var body struct {
			Data    map[string]any `json:"data"`
			Options map[string]any `json:"options"`
		}
		if writes(r) && json.NewDecoder(r.Body).Decode(&body) == nil {
			body.Data["value"] = "something else"
			raw, _ := json.Marshal(body)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
		}
		next.ServeHTTP(w, r)
	},
	"full": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if writes(r) {
			w.WriteHeader(http.StatusInsufficientStorage)
			return
		}
		next.ServeHTTP(w, r)
	},
}

// TestSickDestinations has one that is down, slow, lying or full: a required one
// takes the rotation back, another one does not; and both heal when it is well.
func TestSickDestinations(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t) // which no other test reloads
	e.orders("alternating_users", map[string]any{"rotation_period": "24h"})
	l := e.library(nil)
	for name, sick := range sickness {
		for _, required := range []bool{true, false} {
			e.write("destinations/kv", map[string]any{"required": required, "verify": false})
			before := e.creds()
			l.fault.Store(sick)
			answer, err := e.try("rotate", map[string]any{"wait": 30})
			after := e.creds()
			e.works(after)
			if rolledBack := refusedWith(err, unprocessable, "destination/kv"); rolledBack != required || required && after["api_key"] != before["api_key"] || !required && after["api_key"] == before["api_key"] {
				t.Errorf("%s, required %t: the rotation answered %v, %v", name, required, answer, err)
			}
			e.eventually("the end of what follows", 30*time.Second, func(context.Context) error {
				if following := e.read("status")["following"]; following != nil {
					return fmt.Errorf("there is %v", following)
				}
				return nil
			})
			want := "failed"
			if name == "full" && required {
				want = "in_sync" // it has held the values of before all the time
			}
			if about := e.about("kv"); about["state"] != want || (text(about, "last_error") != "") != (want == "failed") {
				t.Errorf("%s, required %t: of the destination it is said %v", name, required, about)
			}
			l.fault.Store(fault(healthy))
			e.look("kv")
			l.inSync()
		}
	}
	e.history()
}

// refusedWith reports whether an error is of that status and has that word.
func refusedWith(err error, status int, word string) bool {
	var refusal *api.ResponseError
	return errors.As(err, &refusal) && refusal.StatusCode == status && strings.Contains(strings.Join(refusal.Errors, "\n"), word)
}

// TestDriftedDestination finds a secret that was overwritten, and one that was
// deleted, and publishes them again.
func TestDriftedDestination(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t) // which no other test reloads
	e.orders("alternating_users", nil)
	l := e.library(nil)
	kv := e.vault.Client.KVv2(l.mount)
	_, err := kv.Put(t.Context(), "smvm/api-key", map[string]any{"value": "set-by-hand"})
	e.check(err)
	e.check(kv.Delete(t.Context(), "smvm/database-password"))
	e.look("kv")
	e.eventually("the repair", time.Minute, func(context.Context) error { return l.problem() })
	e.eventually("the record of the drift", time.Minute, func(context.Context) error {
		for _, rec := range e.history() {
			if issues := fmt.Sprint(rec["issues"]); rec["kind"] == "publish" && strings.Contains(issues, "smvm/api-key has another value") && strings.Contains(issues, "smvm/database-password was deleted") {
				return nil
			}
		}
		return errors.New("there is none")
	})
}

// TestPluginDiesWhilePublishing kills the plugin while a target keeps it waiting,
// beside one that answers.
func TestPluginDiesWhilePublishing(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.orders("alternating_users", map[string]any{"rotation_period": "24h"})
	l := e.library(map[string]any{"required": true, "deadline": 60, "timeout": 20})
	var posted atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { posted.Add(1) }))
	t.Cleanup(hook.Close)
	e.write("destinations/hook", map[string]any{
		"type": "webhook", "allowed_roles": "default", "url": hook.URL, "key": "webhook-key-0123456789", "values": []string{"password={{db_password}}"},
	})
	e.write("roles/default", map[string]any{"destinations": []string{"kv", "hook"}})
	e.hookInSync(&posted, 1)
	before := number(t, e.creds(), "version")
	reached := make(chan struct{}, 100)
	l.fault.Store(fault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !writes(r) {
			next.ServeHTTP(w, r)
			return
		}
		reached <- struct{}{}
		sickness["slow"](w, r, next)
	}))
	e.write("rotate", map[string]any{"wait": 1})
	<-reached
	e.check(e.vault.KillPlugins())
	l.fault.Store(fault(healthy))
	e.settled(2 * time.Minute)
	l.inSync()
	if version := number(t, e.creds(), "version"); version != before+1 {
		t.Errorf("version %d became %d", before, version)
	}
	e.hookInSync(&posted, 2)
	e.works(e.creds())
	e.history()
}

// hookInSync waits until status says so, after that many notices or more.
func (e *engine) hookInSync(posted *atomic.Int64, notices int64) {
	e.Helper()
	e.eventually("the other destination to be in sync", time.Minute, func(context.Context) error {
		if state := e.about("hook")["state"]; state != "in_sync" || posted.Load() < notices {
			return fmt.Errorf("it is %v after %d notices", state, posted.Load())
		}
		return nil
	})
}
