package backend

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

var update = flag.Bool("update", false, "write what is in testdata anew")

// TestFixtureOfThisVersion keeps what the storage of a mount looks like when this
// version wrote it, for all later ones to read. A new version gets a directory of
// its own, once, by
//
//	go test ./backend -run TestFixtureOfThisVersion -update
//
// and what is there is never written again: it stands for mounts that exist. The
// values in it are random, were never in use, and are the same at every run. It runs
// in a process of its own: what earlier tests left behind would draw from the same
// randomness.
func TestFixtureOfThisVersion(t *testing.T) {
	if os.Getenv("SMVM_FIXTURE") == "" {
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", fmt.Sprintf("-update=%t", *update)) //nolint:gosec // this test
		again.Env = append(os.Environ(), "SMVM_FIXTURE=1")
		if out, err := again.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	made := makeFixture(t)
	if again := makeFixture(t); !maps.Equal(made.storage.contents(t), again.storage.contents(t)) {
		t.Error("made twice, the fixture is not the same")
	}
	dir := filepath.Join("testdata", version)
	switch _, err := os.Stat(dir); {
	case err == nil:
	case *update:
		made.keep(dir)
	default:
		t.Errorf("there is none of %s; run: go test ./backend -run %s -update", version, t.Name())
	}
}

// maker writes a fixture: by requests and operations of the real code, with ids
// that count and targets that accept everything.
type maker struct {
	*mount
	next int
	// dies is the step at which the process dies, such as "jwt.test"; "" for none.
	dies string
}

// answers are what creds answers of the fixture's roles that are at rest, and
// when that was.
type answers struct {
	Written time.Time                 `json:"written"`
	Creds   map[string]map[string]any `json:"creds"`
}

func makeFixture(t *testing.T) *maker {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	m := &maker{mount: unbooted(t)}
	m.reopen()
	m.ask(logical.UpdateOperation, "config", d("environment", "fixture", "history_retention", 100))
	m.connections()
	m.atRest()
	m.inFlight()
	m.reopen()
	return m
}

// reopen starts a process that does nothing by itself.
func (m *maker) reopen() {
	m.b, m.dies = m.made(), ""
	m.b.store.handle.Store(new(logical.Storage(m.storage)))
	m.b.engine.NewID = func() string { m.next++; return fmt.Sprintf("00000000-0000-7000-8000-%012d", m.next) }
	for name, driver := range m.b.engine.Drivers {
		m.b.engine.Drivers[name] = accepting{driver, m}
	}
}

// ask is write with a request id that counts.
func (m *maker) ask(op logical.Operation, path string, data map[string]any) {
	m.Helper()
	req := m.request(op, path, data)
	m.next++
	req.ID = fmt.Sprintf("request-%d", m.next)
	m.must(m.send(req))
}

// do runs an operation on a role or connection.
func (m *maker) do(key string, req rotation.Request) error {
	m.Helper()
	prefix, name := roles.Prefix, key
	if req.Added == nil && key == "main" {
		prefix = roles.ConnectionPrefix
	}
	r, err := m.b.registry.Get(m.Context(), prefix, name)
	if err != nil || r == nil {
		m.Fatalf("find %s: %v", key, err)
	}
	m.clock.advance(time.Second)
	if req.Trigger == "" {
		req.Trigger, req.Actor = rotation.TriggerManual, rotation.Actor{DisplayName: "token-fixture", EntityID: "entity-fixture"}
	}
	run, err := r.Start(m.Context(), req)
	if err != nil {
		m.Fatal(err)
	}
	<-run.Done()
	_, err = run.Result()
	return err
}

// add creates a secret; imported says whether with a supplied value.
func (m *maker) add(role, name, typeName, config string, supplied rotation.Material) {
	m.Helper()
	req := rotation.Request{Kind: rotation.KindCreate, Added: &rotation.Secret{Name: name, Type: typeName, Config: json.RawMessage(config)}}
	if supplied != nil {
		req.Kind, req.Supplied = rotation.KindImport, supplied
	}
	if err := m.do(role, req); err != nil {
		m.Fatal(err)
	}
}

// rotate rotates and expects that to work.
func (m *maker) rotate(role string, req rotation.Request) {
	m.Helper()
	if req.Kind == "" {
		req.Kind = rotation.KindRotate
	}
	if err := m.do(role, req); err != nil {
		m.Fatal(err)
	}
}

// accepting is a driver whose target accepts everything.
type accepting struct {
	rotation.Driver
	m *maker
}

func (a accepting) at(ctx context.Context, s rotation.Secret, step string) error {
	if a.m.dies == s.Name+"."+step {
		a.m.b.stop()
	}
	return ctx.Err()
}

func (a accepting) Set(ctx context.Context, s rotation.Secret, _ rotation.Material, fence rotation.Fence) error {
	if err := fence(ctx); err != nil {
		return err
	}
	return a.at(ctx, s, "set")
}

func (a accepting) Test(ctx context.Context, s rotation.Secret, _ rotation.Material) error {
	return a.at(ctx, s, "test")
}

func (a accepting) Probe(ctx context.Context, s rotation.Secret, _ rotation.Material) error {
	return a.at(ctx, s, "probe")
}

func (a accepting) Retire(ctx context.Context, s rotation.Secret, _ rotation.Material, _ rotation.Fence) error {
	return a.at(ctx, s, "retire")
}

func (m *maker) keep(dir string) {
	m.Helper()
	kept := answers{Written: m.clock.now(), Creds: map[string]map[string]any{}}
	for _, role := range []string{"orders", "legacy", "manual", "weekly", "tired"} {
		kept.Creds[role] = m.read("creds/"+role, nil)
	}
	files := map[string]string{}
	for key, value := range m.storage.contents(m.T) {
		files[filepath.Join("storage", key+".json")] = value
	}
	raw, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		m.Fatal(err)
	}
	files["answers.json"] = string(raw) + "\n"
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			m.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			m.Fatal(err)
		}
	}
}
