// Package bootstrap holds scripts. Its tests have what they talk to misbehave; that
// they work is for those with a real Vault to show.
package bootstrap

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// odd is what creds never answers. Each is to count as no answer.
var odd = []string{
	`{}`, `{"data":[]}`, `{"data":"text"}`, `<html>`, `{"data":{"ttl":0}}`,
	`{"data":{"version":2,"api_key":"b"}}`, `{"data":{"version":"2","ttl":0,"api_key":"b"}}`, `{"data":{"version":2,"ttl":"0","api_key":"b"}}`,
	`{"data":{"version":2,"ttl":-5,"api_key":"b"}}`, `{"data":{"version":0,"ttl":0,"api_key":"b"}}`,
	`{"data":{"version":2,"ttl":0,"changed":false}}`, `{"data":{"version":2,"ttl":0,"last_vault_rotation":"2026-01-01T00:00:00Z"}}`,
	`{"data":{"version":2,"ttl":0,"api_key":"` + strings.Repeat("x", 1<<20) + `"}}`,
}

// TestPollOddAnswers has poll.sh read one odd answer after the other between two good
// ones: the file stays as it is, and the script goes on.
func TestPollOddAnswers(t *testing.T) {
	for i, text := range odd {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			var reads atomic.Int64
			good := func(version int64) string {
				return fmt.Sprintf(`{"data":{"version":%d,"ttl":0,"api_key":"a"}}`, version)
			}
			file, seen := filepath.Join(t.TempDir(), "creds.json"), make(chan string, 1)
			vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				switch reads.Add(1) {
				case 1:
					_, _ = fmt.Fprint(w, good(1))
				case 2:
					_, _ = fmt.Fprint(w, text)
				case 3:
					kept, _ := os.ReadFile(file)
					seen <- string(kept)
					fallthrough
				default:
					_, _ = fmt.Fprint(w, good(3))
				}
			}))
			defer vault.Close()
			out, err := poll(t, file, []string{"VAULT_ADDR=" + vault.URL}, "sh", "-c", `[ "$(jq .version "$0")" != 3 ] || kill $PPID`, file)
			select {
			case kept := <-seen:
				if !strings.Contains(kept, `"version": 1,`) || !strings.Contains(kept, `"api_key": "a"`) {
					t.Errorf("%.80s makes the file %.80s", text, kept)
				}
			default:
				t.Errorf("%.80s ends it: %v, %s", text, err, out)
			}
		})
	}
}

// TestPollVersionOfAnotherRotation has Vault restored from a snapshot and rotate once
// more: a version that poll.sh has comes again, with other values.
func TestPollVersionOfAnotherRotation(t *testing.T) {
	var reads atomic.Int64
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `"api_key":"before","last_vault_rotation":"2026-01-01T00:00:00Z"`
		if restored := reads.Add(1) > 2; restored {
			answer = `"api_key":"after","last_vault_rotation":"2026-01-02T00:00:00Z"`
		}
		if r.URL.Query().Has("if_version") {
			_, answer, _ = strings.Cut(answer, ",")
			answer = `"changed":false,` + answer
		}
		_, _ = fmt.Fprintf(w, `{"data":{"version":3,"ttl":0,%s}}`, answer)
	}))
	defer vault.Close()
	file := filepath.Join(t.TempDir(), "creds.json")
	out, err := poll(t, file, []string{"VAULT_ADDR=" + vault.URL}, "sh", "-c", `[ "$(jq -r .api_key "$0")" != after ] || kill $PPID`, file)
	if kept, _ := os.ReadFile(file); !strings.Contains(string(kept), `"api_key": "after"`) {
		t.Errorf("the file is %s (%v, %s)", kept, err, out)
	}
}

// TestPollProxy has the environment name a proxy, which must see no token: not of a
// Vault Agent on the same machine, nor of any Vault without TLS.
func TestPollProxy(t *testing.T) {
	var reads atomic.Int64
	served := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"data":{"version":%d,"ttl":0,"api_key":"a"}}`, reads.Add(1))
	}
	vault := httptest.NewServer(http.HandlerFunc(served))
	defer vault.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the proxy is asked to %s %s, token shown: %t", r.Method, r.URL, r.Header.Get("X-Vault-Token") != "")
		served(w, r)
	}))
	defer proxy.Close()
	for _, scheme := range []string{"http://", "HTTP://", ""} {
		file := filepath.Join(t.TempDir(), "creds.json")
		address := "VAULT_ADDR=" + scheme + strings.TrimPrefix(vault.URL, "http://")
		_, _ = poll(t, file, []string{address, "http_proxy=" + proxy.URL, "all_proxy=" + proxy.URL, "ALL_PROXY=" + proxy.URL, "no_proxy=", "NO_PROXY="}, "sh", "-c", "kill $PPID")
		if _, err := os.Stat(file); err != nil {
			t.Errorf("with %s it has read nothing: %v", address, err)
		}
	}
}

// TestRollProxy has the environment name a proxy that vouches for an instance which is
// gone: the others are left alone.
func TestRollProxy(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer proxy.Close()
	cmd := exec.CommandContext(t.Context(), "apps/agent/roll.sh", "-restart", "true", "-timeout", "1", gone.URL[strings.LastIndex(gone.URL, ":")+1:])
	cmd.Env = append(os.Environ(), "http_proxy="+proxy.URL, "all_proxy="+proxy.URL, "no_proxy=", "NO_PROXY=")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "does not answer") {
		t.Errorf("it says %v, %s", err, out)
	}
}

// poll runs poll.sh until it ends, or is ended by the command.
func poll(t *testing.T, file string, env []string, command ...string) ([]byte, error) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hvs.token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "apps/poll.sh", append([]string{"smvm/creds/default", file}, command...)...)
	cmd.Env = append(os.Environ(), append(env, "VAULT_TOKEN_FILE="+token)...)
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}
