package backend

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	registry "github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/usage"
)

// sizes are the numbers of roles at which costs are compared.
var sizes = []int{10, 100, 1000, 10000}

// crowd is a mount with many roles, each with a JWT key, an API key and a password
// of no server's.
type crowd struct {
	testing.TB
	b       *backend
	storage *counted
	roles   int
}

// counted counts what is asked of the storage.
type counted struct {
	logical.InmemStorage
	calls atomic.Int64
}

func (s *counted) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	s.calls.Add(1)
	return s.InmemStorage.Get(ctx, key)
}

func (s *counted) Put(ctx context.Context, e *logical.StorageEntry) error {
	s.calls.Add(1)
	return s.InmemStorage.Put(ctx, e)
}

func (s *counted) Delete(ctx context.Context, key string) error {
	s.calls.Add(1)
	return s.InmemStorage.Delete(ctx, key)
}

func (s *counted) List(ctx context.Context, prefix string) ([]string, error) {
	s.calls.Add(1)
	return s.InmemStorage.List(ctx, prefix)
}

func newCrowd(t testing.TB, roles int) *crowd {
	t.Helper()
	c := &crowd{TB: t, storage: &counted{}, roles: roles}
	c.boot()
	for i := range roles {
		c.must(logical.CreateOperation, fmt.Sprintf("roles/r%d", i), d("rotation_period", "720h"))
		c.must(logical.CreateOperation, fmt.Sprintf("secrets/r%d/jwt", i), d("type", "jwt", "algorithm", "ES256"))
		c.must(logical.CreateOperation, fmt.Sprintf("secrets/r%d/api", i), d("type", "api_key"))
		c.must(logical.CreateOperation, fmt.Sprintf("secrets/r%d/pin", i), d("type", "random"))
	}
	c.boot()
	for n := range roles { // what is kept for later reads
		c.must(logical.ReadOperation, "creds/"+c.role(n), nil)
		c.must(logical.ReadOperation, "jwks/"+c.role(n)+"/jwt", nil)
	}
	c.tick()
	c.await("the readers of each role to be stored", func() bool {
		stored, err := c.storage.InmemStorage.List(context.Background(), usage.Prefix+registry.Prefix)
		return err == nil && len(stored) == roles
	})
	return c
}

// await polls for at most a minute.
func (c *crowd) await(what string, check func() bool) {
	c.Helper()
	for deadline := time.Now().Add(time.Minute); !check(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("waited a minute for %s", what)
		}
	}
}

// boot starts a backend over the storage there is, and waits until all is loaded.
func (c *crowd) boot() {
	c.Helper()
	if c.b != nil {
		c.b.Cleanup(context.Background())
	}
	c.b = newBackend(time.Now, registeredTypes)
	err := c.b.Setup(context.Background(), &logical.BackendConfig{
		Logger: hclog.NewNullLogger(), StorageView: c.storage, BackendUUID: "test", System: &logical.StaticSystemView{},
	})
	if err == nil {
		err = c.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: c.storage})
	}
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { c.b.Cleanup(context.Background()) })
	c.await("the roles to be loaded", c.b.registry.Complete)
}

// role names roles in an order that jumps about.
func (c *crowd) role(n int) string { return fmt.Sprintf("r%d", n*7919%c.roles) }

// client is where requests come from. It is made once: allocations are counted.
var client = &logical.Connection{RemoteAddr: "192.0.2.1"}

func (c *crowd) must(op logical.Operation, path string, data map[string]any) map[string]any {
	c.Helper()
	resp, err := c.b.HandleRequest(context.Background(), &logical.Request{
		ID: uuid.NewString(), Operation: op, Path: path, Data: data, Storage: c.storage, MountPoint: "smvm/",
		DisplayName: "approle", EntityID: "entity", Connection: client,
	})
	switch {
	case err != nil:
		c.Fatal(path, err)
	case resp.IsError():
		c.Fatal(path, resp.Error())
	case resp == nil:
		return nil
	}
	return resp.Data
}

// eachSize runs a benchmark at each size, and reports the storage calls of one op.
func eachSize(b *testing.B, work func(c *crowd, n int)) {
	for _, size := range sizes {
		c := newCrowd(b, size)
		b.Run(fmt.Sprintf("roles=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			c.TB = b
			before, n := c.storage.calls.Load(), 0
			for b.Loop() {
				n++
				work(c, n)
			}
			b.ReportMetric(float64(c.storage.calls.Load()-before)/float64(n), "storage/op")
		})
		c.TB = b
	}
}

// BenchmarkTick is what Vault's periodic function costs.
func BenchmarkTick(b *testing.B) {
	eachSize(b, func(c *crowd, _ int) { c.tick() })
}

func (c *crowd) tick() {
	if err := c.b.periodic(context.Background(), &logical.Request{Storage: c.storage, MountPoint: "smvm/"}); err != nil {
		c.Fatal(err)
	}
}

// BenchmarkRead is a read of creds, without Vault around it.
func BenchmarkRead(b *testing.B) {
	eachSize(b, func(c *crowd, n int) { c.must(logical.ReadOperation, "creds/"+c.role(n), nil) })
}

// BenchmarkRotate is a rotation of what needs no server, with storage in memory.
func BenchmarkRotate(b *testing.B) {
	eachSize(b, func(c *crowd, n int) { c.must(logical.UpdateOperation, "rotate/"+c.role(n), nil) })
}

// BenchmarkKeySet is a read of a key set.
func BenchmarkKeySet(b *testing.B) {
	eachSize(b, func(c *crowd, n int) { c.must(logical.ReadOperation, "jwks/"+c.role(n)+"/jwt", nil) })
}

// BenchmarkLoad is how long a start takes, per role.
func BenchmarkLoad(b *testing.B) {
	c := newCrowd(b, 1000)
	for b.Loop() {
		c.boot()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.roles), "ns/role")
}

// TestCostsDoNotGrow counts allocations and storage calls, which say the same on
// every machine: with thirty times as many roles, a tick, a read and a key set
// take no more of them, and ask nothing of storage.
func TestCostsDoNotGrow(t *testing.T) {
	few, many := newCrowd(t, 10), newCrowd(t, 300)
	for _, test := range []struct {
		name string
		most float64 // allocations; a regression makes it more
		work func(c *crowd, n int)
	}{
		{"tick", 2, func(c *crowd, _ int) { c.tick() }},
		{"read", 52, func(c *crowd, n int) { c.must(logical.ReadOperation, "creds/"+c.role(n), nil) }},
		{"key set", 52, func(c *crowd, n int) { c.must(logical.ReadOperation, "jwks/"+c.role(n)+"/jwt", nil) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			allocations, calls := few.cost(test.work)
			more, moreCalls := many.cost(test.work)
			t.Logf("%.0f allocations of %d roles, %.0f of %d", allocations, few.roles, more, many.roles)
			if more > allocations*1.15+1 || more > test.most {
				t.Errorf("takes %.0f allocations with %d roles, %.0f with %d; at most %.0f are wanted", allocations, few.roles, more, many.roles, test.most)
			}
			if calls+moreCalls > 0 {
				t.Errorf("asks %v and %v of storage", calls, moreCalls)
			}
		})
	}
}

// cost returns the allocations and storage calls of one time.
func (c *crowd) cost(work func(c *crowd, n int)) (allocations, calls float64) {
	n := 0
	work(c, n)
	before := c.storage.calls.Load()
	allocations = testing.AllocsPerRun(200, func() { n++; work(c, n) })
	return allocations, float64(c.storage.calls.Load() - before)
}
