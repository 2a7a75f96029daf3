package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-uuid"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/drift"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
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

// mount is an initialized backend over in-memory storage. When its test ends, no
// secret it ever stored or was given may stand in anything it said.
type mount struct {
	*testing.T
	b       *backend
	storage *storage
	clock   *clock
	system  *logical.StaticSystemView
	said    *transcript
	// dependents is who needs previous values, in every process; nil for what the engine
	// knows itself.
	dependents func(*rotation.Role, *rotation.Secret) []string
	// untried says that no process tries stored logins by itself: their sessions would be
	// counted, and what they are refused.
	untried bool
	// types are those that secrets can have.
	types func(*postgres.Client, secret.Passwords) map[string]secret.Type
}

func newMount(t *testing.T) *mount {
	t.Helper()
	m := unbooted(t)
	m.boot()
	return m
}

func unbooted(t *testing.T) *mount {
	t.Helper()
	m := &mount{
		T: t, storage: newStorage(), said: &transcript{},
		clock:  &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
		system: &logical.StaticSystemView{ReplicationStateVal: consts.ReplicationUnknown},
		types:  registeredTypes,
	}
	m.policy("letters", func() (string, error) { return strings.Repeat("a", 30) + uid(t), nil })
	t.Cleanup(func() { m.storage.findIn(t, m.said.text()) })
	return m
}

// policy makes a password policy known to Vault.
func (m *mount) policy(name string, generate func() (string, error)) {
	m.system.SetPasswordPolicy(name, generate)
}

// withoutTries is a mount that tries no stored logins by itself.
func withoutTries(t *testing.T) *mount {
	t.Helper()
	m := unbooted(t)
	m.untried = true
	m.boot()
	return m
}

// boot starts a backend over the storage there is, as after a crash.
func (m *mount) boot() {
	m.Helper()
	if m.b != nil {
		m.b.Cleanup(context.Background())
	}
	m.b = m.made()
	if err := m.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: m.storage}); err != nil {
		m.Fatal(err)
	}
}

// made is a backend as Vault makes it, before it is initialized.
func (m *mount) made() *backend {
	m.Helper()
	b := newBackend(m.clock.now, m.types)
	if m.untried {
		ports := b.driftPorts()
		ports.Loaded = make(chan struct{})
		b.drift = drift.New(ports)
	}
	if m.dependents != nil {
		b.engine.Dependents = m.dependents
	}
	conf := &logical.BackendConfig{
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: m.said}),
		System: m.system, StorageView: m.storage, BackendUUID: "test",
	}
	if err := b.Setup(context.Background(), conf); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { b.Cleanup(context.Background()) })
	return b
}

func uid(t *testing.T) string {
	id, err := uuid.GenerateUUID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// request is one as Vault makes it, with an id of its own. It waits for the operation that
// it starts to end, unless data says how long: what the test does next may need that.
func (m *mount) request(op logical.Operation, path string, data map[string]any) *logical.Request {
	m.Helper()
	if _, says := data["wait"]; !says && op == logical.UpdateOperation && starts(path, data) {
		waits := d("wait", 60)
		maps.Copy(waits, data)
		data = waits
	}
	req := &logical.Request{
		ID: uid(m.T), Operation: op, Path: path, Data: data, Storage: m.storage, MountPoint: "smvm/",
		DisplayName: "token-test", EntityID: "entity-test",
	}
	if op == logical.UpdateOperation && m.b.creatable(path) {
		if _, exists, err := m.b.HandleExistenceCheck(context.Background(), req); err == nil && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	return req
}

// starts reports whether a write starts an operation that it can wait for.
func starts(path string, data map[string]any) bool {
	switch first, _, _ := strings.Cut(path, "/"); first {
	case "rotate", "rotate-root", "rollback", "retire":
		return true
	case "leaked":
		return data["respond"] == true
	case "verify":
		return data["repair"] == true
	}
	return false
}

// try sends a request.
func (m *mount) try(op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	m.Helper()
	return m.send(m.request(op, path, data))
}

// send checks the answer against the declared schema, and keeps what it says.
func (m *mount) send(req *logical.Request) (*logical.Response, error) {
	m.Helper()
	m.supply(req)
	resp, err := m.b.HandleRequest(context.Background(), req)
	m.keep(req, resp, err)
	if err == nil && resp != nil && !resp.IsError() {
		m.declared(req, resp)
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

func (m *mount) delete(path string) {
	m.Helper()
	m.must(m.try(logical.DeleteOperation, path, nil))
}

// deleteRole deletes a role, and its secrets before.
func (m *mount) deleteRole(name string) {
	m.Helper()
	for _, secret := range m.list("secrets/" + name) {
		m.delete("secrets/" + name + "/" + secret)
	}
	m.delete("roles/" + name)
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

// refused sends a request that must be a 400 whose text has all of the words,
// and that must change nothing.
func (m *mount) refused(op logical.Operation, path string, data map[string]any, words ...string) {
	m.Helper()
	before := m.storage.contents(m.T)
	resp, err := m.try(op, path, data)
	if err != nil || resp == nil || !resp.IsError() {
		m.Errorf("%s %s %.200v: want a 400, got %v, %v", op, path, data, resp, err)
		return
	}
	m.mentions(resp.Error(), words...)
	if strings.Contains(resp.Error().Error(), "invalid request") {
		m.Errorf("%s %s: %q is not for people", op, path, resp.Error())
	}
	m.storage.same(m.T, before)
}

// fails sends a request that must be an error with that HTTP status, and whose
// text has all of the words; 500 stands for every error that Vault does not know.
func (m *mount) fails(status int, op logical.Operation, path string, data map[string]any, words ...string) {
	m.Helper()
	resp, err := m.try(op, path, data)
	if err == nil {
		m.Errorf("%s %s %v: want a %d, got %v", op, path, data, status, resp)
		return
	}
	if got := statusOf(err); got != status {
		m.Errorf("%s %s: want a %d, got %d: %v", op, path, status, got, err)
	}
	m.mentions(err, words...)
}

func statusOf(err error) int {
	var coded logical.HTTPCodedError
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return 500
}

func (m *mount) mentions(err error, words ...string) {
	m.Helper()
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			m.Errorf("%q does not mention %q", err, word)
		}
	}
}

// eventually polls until the check is true.
func (m *mount) eventually(what string, check func() bool) {
	m.Helper()
	m.within(20*time.Second, what, check)
}

// within is eventually with another limit.
func (m *mount) within(limit time.Duration, what string, check func() bool) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), limit)
	defer cancel()
	if err := testenv.Eventually(ctx, what, func(context.Context) error {
		if !check() {
			return fmt.Errorf("not yet")
		}
		return nil
	}); err != nil {
		m.Fatalf("%v; the log:\n%s", err, m.said.text())
	}
}

// overlapOver waits until secrets of role r have no previous value any more, and the
// operation that retired it has ended.
func (m *mount) overlapOver(secrets ...string) {
	m.Helper()
	m.eventually("the end of the overlap", func() bool {
		kept := slices.ContainsFunc(secrets, func(name string) bool { return m.stage(name, "previous") != nil })
		return !kept && m.read("status/r", nil)["in_flight"] == nil
	})
}

// restate changes what is stored of a role while no process serves it, and returns the
// role as the next process loads it.
func (m *mount) restate(role string, change func(*rotation.State)) *rotation.Role {
	m.Helper()
	m.b.Cleanup(context.Background()) // a run that is not over would store its own state over this one
	key := roles.Prefix + role
	state, err := m.b.engine.Store.Load(m.Context(), key)
	if err == nil {
		change(state)
		err = m.b.engine.Store.Save(m.Context(), key, state)
	}
	if err != nil {
		m.Fatal(err)
	}
	m.boot()
	r, err := m.b.findRole(m.Context(), role)
	if err != nil {
		m.Fatal(err)
	}
	return r
}

// tick moves the clock and then calls the backend as Vault does every minute.
func (m *mount) tick(d time.Duration) {
	m.Helper()
	m.clock.advance(d)
	if err := m.b.periodic(context.Background(), &logical.Request{MountPoint: "smvm/"}); err != nil {
		m.Fatal(err)
	}
}
