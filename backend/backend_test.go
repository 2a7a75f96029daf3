package backend

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-uuid"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
)

// clock is the time of a test: it stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// mount is an initialized backend over in-memory storage.
type mount struct {
	*testing.T
	b       *backend
	storage *logical.InmemStorage
	clock   *clock
}

func newMount(t *testing.T) *mount {
	t.Helper()
	m := &mount{T: t, storage: &logical.InmemStorage{}, clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	m.boot()
	return m
}

// boot starts a backend over the storage there is, as after a crash.
func (m *mount) boot() {
	m.Helper()
	b := newBackend(m.clock.now)
	system := &logical.StaticSystemView{ReplicationStateVal: consts.ReplicationUnknown}
	system.SetPasswordPolicy("letters", func() (string, error) { return strings.Repeat("a", 30) + uid(m.T), nil })
	conf := &logical.BackendConfig{
		Logger: hclog.NewNullLogger(), System: system, StorageView: m.storage, BackendUUID: "test",
	}
	if err := b.Setup(context.Background(), conf); err != nil {
		m.Fatal(err)
	}
	if err := b.Initialize(context.Background(), &logical.InitializationRequest{Storage: m.storage}); err != nil {
		m.Fatal(err)
	}
	m.b = b
	m.Cleanup(func() { b.Cleanup(context.Background()) })
}

func uid(t *testing.T) string {
	id, err := uuid.GenerateUUID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// try sends a request, and checks the answer against the declared schema.
func (m *mount) try(op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	m.Helper()
	req := &logical.Request{
		ID: uid(m.T), Operation: op, Path: path, Data: data, Storage: m.storage, MountPoint: "smvm/", DisplayName: "token-test",
	}
	if op == logical.UpdateOperation {
		if _, exists, err := m.b.HandleExistenceCheck(context.Background(), req); err == nil && !exists && m.b.creatable(path) {
			req.Operation = logical.CreateOperation
		}
	}
	resp, err := m.b.HandleRequest(context.Background(), req)
	if err == nil && resp != nil && !resp.IsError() {
		if p := m.b.Route(path); p != nil {
			if declared := p.Operations[req.Operation].Properties().Responses[200]; len(declared) > 0 && declared[0].Fields != nil {
				schema.ValidateResponse(m.T, &declared[0], resp, true)
			}
		}
	}
	return resp, err
}

// creatable reports whether a path tells creating from updating.
func (b *backend) creatable(path string) bool {
	p := b.Route(path)
	return p != nil && p.ExistenceCheck != nil
}

func (m *mount) write(path string, data map[string]any) map[string]any {
	m.Helper()
	return m.must(m.try(logical.UpdateOperation, path, data))
}

func (m *mount) read(path string, data map[string]any) map[string]any {
	m.Helper()
	return m.must(m.try(logical.ReadOperation, path, data))
}

func (m *mount) list(path string) []string {
	m.Helper()
	keys, _ := m.must(m.try(logical.ListOperation, path, nil))["keys"].([]string)
	return keys
}

func (m *mount) must(resp *logical.Response, err error) map[string]any {
	m.Helper()
	if err != nil {
		m.Fatalf("request refused: %v", err)
	}
	if resp == nil {
		return nil
	}
	if resp.IsError() {
		m.Fatalf("request refused: %v", resp.Error())
	}
	return resp.Data
}

// refused sends a request that must be a 400 whose text has all of the words.
func (m *mount) refused(op logical.Operation, path string, data map[string]any, words ...string) {
	m.Helper()
	resp, err := m.try(op, path, data)
	if err != nil || resp == nil || !resp.IsError() {
		m.Errorf("%s %s %v: want a 400, got %v, %v", op, path, data, resp, err)
		return
	}
	for _, word := range words {
		if !strings.Contains(resp.Error().Error(), word) {
			m.Errorf("%s %s: %q does not mention %q", op, path, resp.Error(), word)
		}
	}
}

func TestRoleLife(t *testing.T) {
	m := newMount(t)
	m.write("roles/default", map[string]any{"rotation_period": "1h"})
	m.write("secrets/default/jwt", map[string]any{"type": "jwt"})
	first := m.write("secrets/default/api_key", map[string]any{"type": "api_key", "prefix": "orders"})
	if first["status"] != "completed" || first["version"] != 2 {
		t.Fatalf("creating a secret answered %v", first)
	}
	before := m.read("creds", nil)
	rotated := m.write("rotate", map[string]any{"reason": "test"})
	if rotated["status"] != "completed" || rotated["version"] != 3 {
		t.Fatalf("rotate answered %v", rotated)
	}
	after := m.read("creds", nil)
	if after["jwt_secret"] == before["jwt_secret"] || after["jwt_previous_secret"] != before["jwt_secret"] {
		t.Error("after a rotation, the secret before is not the previous one")
	}
	m.write("rollback", nil)
	if back := m.read("creds", nil); back["jwt_secret"] != before["jwt_secret"] || back["version"] != 4 {
		t.Error("a rollback does not give the values from before, as a new version")
	}
	h := m.read("history/default", nil)
	if h["chain_valid"] != true || h["count"] != 4 {
		t.Errorf("history is %v", h)
	}
	if ids := m.list("history/default"); len(ids) != 4 {
		t.Errorf("history lists %d entries, want 4", len(ids))
	}
	rec := m.read("history/default/"+rotated["rotation_id"].(string), map[string]any{"format": "markdown"})
	if text := rec["markdown"].(string); !strings.Contains(text, "Reason: test") {
		t.Errorf("the record is %s", text)
	}
}
