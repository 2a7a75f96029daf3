package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// faulty is one request of TestStorageFails, and what is in storage when it was
// done; nil for requests that only read.
type faulty struct {
	op   logical.Operation
	path string
	data map[string]any
	done func(*mount) bool
}

// furnished is a mount with one of everything that needs no PostgreSQL. History
// is over its limit by so much that the next operation also deletes entries.
func furnished(t *testing.T) *mount {
	m := newMount(t)
	m.write("config", d("environment", "before", "history_retention", 10))
	m.write("connections/spare", d("host", "h", "database", "d", "username", "u", "password", "never-used-password", "verify_connection", false))
	m.write("roles/r", d("rotation_period", "1h"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	m.write("secrets/r/pin", d("type", "random"))
	for range 13 {
		m.write("rotate/r", nil)
	}
	for i := range 16 { // a role that may be deleted, because it has no secrets
		m.write("roles/left", d("max_retries", i+1))
	}
	return m
}

func faultyRequests(id string) []faulty {
	const update, read, list, remove = logical.UpdateOperation, logical.ReadOperation, logical.ListOperation, logical.DeleteOperation
	gone := func(op logical.Operation, path string) func(*mount) bool {
		return func(m *mount) bool {
			resp, err := m.try(op, path, nil)
			return err == nil && (resp == nil || resp.IsError())
		}
	}
	there := func(path, field string, value any) func(*mount) bool {
		return func(m *mount) bool { return fmt.Sprint(m.read(path, nil)[field]) == fmt.Sprint(value) }
	}
	return []faulty{
		{update, "config", d("environment", "after"), there("config", "environment", "after")},
		{update, "connections/new", d("host", "h", "database", "d", "username", "u", "password", "never-used-password", "verify_connection", false), there("connections/new", "host", "h")},
		{update, "connections/spare", d("host", "other", "verify_connection", false), there("connections/spare", "host", "other")},
		{remove, "connections/spare", nil, gone(read, "connections/spare")},
		{update, "roles/new", nil, there("roles/new", "auto_rotate", true)},
		{update, "roles/r", d("overlap", "20m"), there("roles/r", "overlap", 1200)},
		{remove, "roles/left", nil, gone(read, "roles/left")},
		{update, "secrets/r/new", d("type", "api_key"), there("secrets/r/new", "type", "api_key")},
		{update, "secrets/r/pin", d("length", 50), there("secrets/r/pin", "length", 50)},
		{remove, "secrets/r/pin", nil, gone(read, "secrets/r/pin")},
		{update, "rotate/r", nil, there("status/r", "version", 16)},
		{update, "rotate/r", d("revoke_previous", true), there("status/r", "version", 16)},
		{update, "rollback/r", nil, there("status/r", "version", 16)},
		{update, "verify/r", d("repair", true), func(m *mount) bool {
			ids := m.list("history/r")
			return m.read("history/r/"+ids[len(ids)-1], nil)["kind"] == "repair"
		}},
		{update, "rotate/r", d("dry_run", true), nil},
		{read, "config", nil, nil},
		{read, "connections/spare", nil, nil},
		{list, "connections", nil, nil},
		{read, "connections/spare/history", nil, nil},
		{list, "connections/spare/history", nil, nil},
		{read, "roles/r", nil, nil},
		{list, "roles", nil, nil},
		{read, "secrets/r/pin", nil, nil},
		{list, "secrets/r", nil, nil},
		{read, "creds/r", nil, nil},
		{read, "creds/r/pin", d("stage", "previous"), nil},
		{read, "verify/r", nil, nil},
		{read, "status/r", nil, nil},
		{read, "history/r", nil, nil},
		{list, "history/r", nil, nil},
		{read, "history/r", d("format", "jsonl"), nil},
		{read, "history/r/" + id, nil, nil},
		{read, "history/r/" + id, d("format", "markdown"), nil},
	}
}

// faults are the ways in which storage fails.
var faults = map[string]func(*storage, bool){
	"get":    func(s *storage, fail bool) { s.FailGet(fail) },
	"put":    func(s *storage, fail bool) { s.FailPut(fail) },
	"list":   func(s *storage, fail bool) { s.FailList(fail) },
	"delete": func(s *storage, fail bool) { s.FailDelete(fail) },
}

// TestStorageFails makes every request while storage fails, on a backend that has
// loaded everything and on one that has just started. Who is told that something
// was done finds it done after a restart; what could not be done can be done when
// storage works again.
func TestStorageFails(t *testing.T) {
	m := furnished(t)
	ids := m.list("history/r")
	for _, f := range faultyRequests(ids[0]) {
		for fault, set := range faults {
			for _, cold := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s %v %s cold=%v", f.op, f.path, f.data, fault, cold), func(t *testing.T) {
					other := unbooted(t)
					other.storage, other.clock = m.storage.copied(t), m.clock
					other.fail(f, fault, set, cold)
				})
			}
		}
	}
}

func (m *mount) fail(f faulty, fault string, set func(*storage, bool), cold bool) {
	m.Helper()
	m.boot()
	want := m.expected(f)
	m.boot()
	if !cold {
		m.list("roles")
		m.list("connections")
		m.read("config", nil)
	} else {
		set(m.storage, true)
		m.boot()
	}
	set(m.storage, true)
	req := m.request(f.op, f.path, f.data)
	resp, err := m.send(req)
	set(m.storage, false)
	refused := err != nil || (resp != nil && resp.IsError())
	if !refused && m.mustFail(f, fault, cold) {
		m.Errorf("it is answered %v", resp)
	}
	if refused && fault == "delete" {
		m.Errorf("what only tidies up fails the request: %v, %v", resp, err)
	}
	if got := fmt.Sprint(data(resp)); !refused && f.done == nil && got != want && !m.saysWhy(f, fault, got) {
		m.Errorf("it answers %v, want %v", got, want)
	}
	if refused && f.done == nil && fmt.Sprint(m.must(m.try(f.op, f.path, f.data))) != want {
		m.Error("the answer is another one when storage works again")
	}
	m.recovered(f, refused)
}

// recovered does what was refused, and looks for what was done after a restart.
func (m *mount) recovered(f faulty, refused bool) {
	m.Helper()
	if f.done == nil {
		return
	}
	if refused { // it may find the engine's own recovery under way
		m.eventually("the same request", func() bool {
			resp, err := m.try(f.op, f.path, f.data)
			return err == nil && !resp.IsError()
		})
	}
	if !f.done(m) {
		m.Error("it is not done")
	}
	m.boot()
	if !f.done(m) {
		m.Error("after a restart it is not done")
	}
	if h := m.read("history/r", nil); h["chain_valid"] != true {
		m.Errorf("the history is %v", h)
	}
}

// expected is what a request that only reads answers while storage works.
func (m *mount) expected(f faulty) string {
	m.Helper()
	if f.done != nil {
		return ""
	}
	return fmt.Sprint(m.must(m.try(f.op, f.path, f.data)))
}

func data(resp *logical.Response) map[string]any {
	if resp == nil {
		return nil
	}
	return resp.Data
}

// mustFail says which requests cannot do without what fails. What was loaded
// before is served from memory, however storage is.
func (m *mount) mustFail(f faulty, fault string, cold bool) bool {
	switch fault {
	case "put":
		return f.done != nil
	case "get":
		return strings.Contains(f.path, "history/r") || (cold && !overview(f))
	case "list":
		return overview(f)
	}
	return false
}

// overview tells the lists that show what they can, and an error for the rest.
func overview(f faulty) bool {
	return f.op == logical.ListOperation && (f.path == "roles" || f.path == "connections")
}

func (m *mount) saysWhy(f faulty, fault, answer string) bool {
	return overview(f) && fault == "get" && strings.Contains(answer, "error:storage: load ")
}

// TestPruningFails keeps history at its limit while nothing can be deleted: that
// keeps nobody from rotating, and is made up for later.
func TestPruningFails(t *testing.T) {
	m := furnished(t)
	m.storage.FailDelete(true)
	for range 3 {
		m.clock.advance(time.Second)
		m.write("rotate/r", nil)
	}
	if dropped := m.read("history/r", nil)["base_hash"]; dropped == "" {
		t.Fatal("nothing was to be deleted")
	}
	m.storage.FailDelete(false)
	for range 4 {
		m.write("rotate/r", nil)
	}
	kept := 0
	for key := range m.storage.contents(t) {
		if strings.HasPrefix(key, "history/role/r/") {
			kept++
		}
	}
	h := m.read("history/r", nil)
	if kept != h["kept"] || kept > 13 || h["chain_valid"] != true || kept < 10 || h["base_hash"] == "" {
		t.Errorf("%d entries are kept, of %v", kept, h)
	}
}

// endless is a storage of which no call ends before its context does.
type endless struct{ calls []time.Duration }

func (e *endless) wait(ctx context.Context) error {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(time.Hour)
	}
	e.calls = append(e.calls, time.Until(end))
	return context.DeadlineExceeded
}

func (e *endless) List(ctx context.Context, _ string) ([]string, error) { return nil, e.wait(ctx) }

func (e *endless) Get(ctx context.Context, _ string) (*logical.StorageEntry, error) {
	return nil, e.wait(ctx)
}

func (e *endless) Put(ctx context.Context, _ *logical.StorageEntry) error { return e.wait(ctx) }

func (e *endless) Delete(ctx context.Context, _ string) error { return e.wait(ctx) }

// TestStorageCallsEnd has storage hang: who asks it for the mount, and not for a request
// that ends, is kept for no longer than storageTimeout.
func TestStorageCallsEnd(t *testing.T) {
	hangs := &endless{}
	s := &store{}
	handle := logical.Storage(hangs)
	s.handle.Store(&handle)
	_, get := s.ReadRaw(t.Context(), "key")
	_, list := s.List(t.Context(), "prefix")
	for _, err := range []error{get, list, s.Write(t.Context(), "key", "value"), s.Delete(t.Context(), "key")} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ends with %v", err)
		}
	}
	if len(hangs.calls) != 4 || slices.Max(hangs.calls) > storageTimeout {
		t.Errorf("the calls may take %v", hangs.calls)
	}
}
