package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/usage"
)

// storage is in memory and remembers every secret that was ever put into it.
type storage struct {
	logical.InmemStorage
	mu      sync.Mutex
	secrets map[string]string // the value, and what it is
	puts    int               // how many more are taken; all if negative
}

func newStorage() *storage { return &storage{secrets: map[string]string{}, puts: -1} }

// allowPuts takes that many more writes and then refuses all; a negative number
// takes all.
func (s *storage) allowPuts(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts = n
}

func (s *storage) takesPut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.puts > 0 {
		s.puts--
		return true
	}
	return s.puts < 0
}

// Get implements logical.Storage. Like Vault's, it takes no relative path.
func (s *storage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if strings.Contains(key, "..") {
		return nil, logical.ErrRelativePath
	}
	return s.InmemStorage.Get(ctx, key)
}

// Put implements logical.Storage.
func (s *storage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if strings.Contains(entry.Key, "..") {
		return logical.ErrRelativePath
	}
	if !isReaders(entry.Key) && !s.takesPut() {
		return errors.New("no more puts are taken")
	}
	if state, err := rotation.Decode(entry.Value); err == nil {
		for name, secret := range state.Secrets {
			for stage, v := range map[string]*rotation.Value{"current": secret.Current, "previous": secret.Previous, "pending": secret.Pending, "next": secret.Next} {
				if v != nil {
					s.noteMaterial(entry.Key+" "+name+" "+stage, v.Material)
				}
			}
		}
	}
	return s.InmemStorage.Put(ctx, entry)
}

func (s *storage) noteMaterial(what string, material rotation.Material) {
	for _, field := range []string{"password", "verifier", "secret", "private_key", "key", "value"} {
		s.note(what+" "+field, material[field])
	}
}

// note remembers a secret. Shorter ones may occur in a text by accident.
func (s *storage) note(what, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(secret) >= 8 {
		s.secrets[secret] = what
	}
}

// findIn reports every secret that stands in the text.
func (s *storage) findIn(t *testing.T, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for secret, what := range s.secrets {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("what was said shows %s: …%s…", what, text[max(0, at-200):at])
		}
	}
}

// isReaders tells what is stored in the background a while after somebody has read, by
// no request.
func isReaders(key string) bool { return strings.HasPrefix(key, usage.Prefix) }

// contents is everything there is, but for the readers.
func (s *storage) contents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := logical.ScanView(t.Context(), s, func(key string) {
		entry, err := s.Get(t.Context(), key)
		if err != nil {
			t.Error(err)
		} else if entry != nil && !isReaders(key) {
			found[key] = string(entry.Value)
		}
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

// same reports what differs from the contents of before, but for how far alerts were
// delivered: that is written whenever a receiver has answered.
func (s *storage) same(t *testing.T, before map[string]string) {
	t.Helper()
	now := s.contents(t)
	for key, value := range now {
		if before[key] != value && !strings.HasPrefix(key, "alert-cursor/") {
			t.Errorf("%s was changed", key)
		}
	}
	for key := range before {
		if _, kept := now[key]; !kept {
			t.Errorf("%s was removed", key)
		}
	}
}

// copied is a storage with the same contents.
func (s *storage) copied(t *testing.T) *storage {
	t.Helper()
	other := newStorage()
	for key, value := range s.contents(t) {
		if err := other.Put(t.Context(), &logical.StorageEntry{Key: key, Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	return other
}

// transcript is everything a mount said: log lines, errors, warnings, and
// answers other than those that are for secrets.
type transcript struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// Write implements io.Writer.
func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

func (s *transcript) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// supply notes the secrets that a request supplies.
func (m *mount) supply(req *logical.Request) {
	path := m.b.Route(req.Path)
	if path == nil {
		return
	}
	for name, value := range req.Data {
		text := fmt.Sprint(value)
		if name == "url" && shownURL(text) == text {
			continue // without a path there is nothing to hide
		}
		if f := path.Fields[name]; f != nil && f.DisplayAttrs != nil && f.DisplayAttrs.Sensitive {
			m.storage.note("supplied "+name, text)
		}
	}
}

// keep adds an answer to the transcript.
func (m *mount) keep(req *logical.Request, resp *logical.Response, err error) {
	_, _ = fmt.Fprintln(m.said, req.Operation, req.Path, err)
	if resp == nil {
		return
	}
	_, _ = fmt.Fprintln(m.said, resp.Warnings, resp.Error())
	if !isCreds(req.Path) && !strings.HasSuffix(req.Path, "/sign") {
		data, err := json.Marshal(resp.Data)
		_, _ = fmt.Fprintln(m.said, string(data), err)
	}
}

func isCreds(path string) bool { return path == "creds" || strings.HasPrefix(path, "creds/") }

// declared checks an answer against the declared one. The names of a role's
// values are its operator's choice, so of those only the rest is checked.
func (m *mount) declared(req *logical.Request, resp *logical.Response) {
	m.Helper()
	path := m.b.Route(req.Path)
	if path == nil {
		m.Errorf("%s answers and is no path", req.Path)
		return
	}
	declared := path.Operations[req.Operation].Properties().Responses[200]
	if len(declared) == 0 {
		if len(resp.Data) > 0 {
			m.Errorf("%s %s answers %v and declares that it answers nothing", req.Operation, req.Path, maps.Keys(resp.Data))
		}
		return
	}
	kind, _ := resp.Data[logical.HTTPContentType].(string)
	if strings.HasPrefix(kind, "text/plain") {
		return
	}
	if kind == "application/x-ndjson" {
		m.declaredLines(resp.Data[logical.HTTPRawBody].([]byte))
		return
	}
	if body, ok := resp.Data[logical.HTTPRawBody].([]byte); ok {
		resp = &logical.Response{Data: map[string]any{}}
		if err := json.Unmarshal(body, &resp.Data); err != nil {
			m.Errorf("%s answers no JSON: %v", req.Path, err)
		}
	}
	strict := !isCreds(req.Path) || strings.Count(req.Path, "/") == 2
	schema.ValidateResponse(m.T, &declared[0], withoutSteps(resp), strict)
}

// declaredLines checks the lines of an export: each is a record.
func (m *mount) declaredLines(text []byte) {
	m.Helper()
	for line := range bytes.Lines(text) {
		resp := &logical.Response{Data: map[string]any{}}
		if err := json.Unmarshal(line, &resp.Data); err != nil {
			m.Errorf("a line of an export is no JSON: %v", err)
		}
		schema.ValidateResponse(m.T, &framework.Response{Fields: recordFields()}, resp, true)
	}
}

// withoutSteps leaves out the fields whose names the secrets decide.
func withoutSteps(resp *logical.Response) *logical.Response {
	declared := *resp
	declared.Data = maps.Clone(resp.Data)
	maps.DeleteFunc(declared.Data, func(name string, _ any) bool {
		return strings.HasSuffix(name, "_steps") || resp.WrapInfo != nil && strings.HasSuffix(name, "_key")
	})
	return &declared
}
