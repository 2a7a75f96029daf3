package acceptance

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The crowd of TestHundredClients: so many clients with so many requests each.
const (
	clients  = 100
	requests = 14
)

// crowd is what the clients of TestHundredClients know together.
type crowd struct {
	*engine
	raw *raw

	mu       sync.Mutex
	values   map[string]string // by role and version: what creds answer
	versions map[string]bool   // by role and version: acknowledged to a rotation
	set      map[string]int64  // by path and field: the last value acknowledged
	statuses map[int]int
}

// The roles of the crowd: two that are rotated, one with a user that is cut over,
// and two that come and go.
var (
	lasting  = []string{"default", "second", "single"}
	fleeting = []string{"fleeting1", "fleeting2"}
)

// TestHundredClients lets a crowd rotate, roll back, update, delete, make again
// and read the same roles. Nothing dies, hangs or gets lost, and whatever is read
// is of one version and works.
func TestHundredClients(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	c := &crowd{engine: e, raw: e.raw(), values: map[string]string{}, versions: map[string]bool{}, set: map[string]int64{}, statuses: map[int]int{}}
	c.settle()
	started := time.Now()
	var working sync.WaitGroup
	for i := range clients {
		working.Go(func() { c.client(i) })
	}
	working.Wait()
	took := time.Since(started)
	if took > 2*time.Minute {
		t.Errorf("%d clients with %d requests each took %s", clients, requests, took)
	}
	c.check()
	t.Logf("%d clients, %d requests in %s: %v", clients, clients*requests, took.Round(time.Millisecond), c.statuses)
}

// settle makes the roles.
func (c *crowd) settle() {
	c.Helper()
	c.orders("alternating_users", nil)
	for _, user := range []string{"second_a", "second_b", "single", "fleeting1", "fleeting2"} {
		c.addUser(user)
	}
	c.write("roles/second", map[string]any{"rotation_period": "24h"})
	c.write("secrets/second/db", c.database("second_a", "second_b"))
	c.write("secrets/second/api", map[string]any{"type": "api_key"})
	c.write("roles/single", map[string]any{"rotation_schedule": "0 3 * * *"})
	c.write("secrets/single/db", c.database("single"))
	for _, role := range fleeting {
		c.write("roles/"+role, nil)
	}
}

func (c *crowd) database(users ...string) map[string]any {
	data := map[string]any{"type": "database", "connection": "main"}
	if len(users) == 2 {
		data["rotation_strategy"] = "alternating_users"
	}
	for i, user := range users {
		users[i] = c.user(user)
	}
	data["usernames"] = users
	return data
}

// client does its share. Each knows the versions that it has seen itself.
func (c *crowd) client(number int) {
	random := rand.New(rand.NewPCG(uint64(number), 1)) //nolint:gosec // to be repeatable
	known := map[string]int64{}
	for i := range requests {
		role := lasting[random.IntN(len(lasting))]
		switch dice := random.IntN(20); {
		case number < len(ownFields):
			c.update(number, int64(i))
		case dice < 3:
			c.rotate("rotate/"+role, map[string]any{"wait": "60s"})
		case dice < 4:
			c.rotate("rotate/"+role, map[string]any{"wait": "60s", "secrets": "db"})
		case dice < 6:
			c.rotate("rollback/"+role, map[string]any{"wait": "60s"})
		case dice < 7:
			c.send(http.MethodPost, "rotate-root/main", nil)
		case dice < 8:
			c.send(http.MethodPost, "roles/default", map[string]any{"auto_rotate": true})
		case dice < 12:
			c.comeAndGo(fleeting[random.IntN(len(fleeting))], random)
		case dice < 15:
			c.look(random)
		default:
			c.reads(append(lasting, fleeting...)[random.IntN(5)], known)
		}
	}
}

// send expects an answer by design: done, wrong for what there is now, or in
// conflict with what is under way.
func (c *crowd) send(method, path string, data map[string]any) reply {
	c.Helper()
	answer := c.raw.do(method, path, data)
	c.mu.Lock()
	c.statuses[answer.status]++
	c.mu.Unlock()
	switch answer.status {
	case http.StatusOK, http.StatusNoContent, http.StatusBadRequest, http.StatusConflict:
	case http.StatusNotFound:
		if method != http.MethodGet {
			c.Errorf("%s %s answered 404", method, path)
		}
	default:
		c.Errorf("%s %s answered %d: %s", method, path, answer.status, answer.cause())
	}
	return answer
}

// rotate notes the version that it was given, which nobody else may be given.
func (c *crowd) rotate(path string, data map[string]any) {
	answer := c.send(http.MethodPost, path, data)
	if answer.status != http.StatusOK {
		return
	}
	done := answer.data()
	if done["status"] != "completed" {
		c.Errorf("%s answered %v", path, done)
	}
	key := fmt.Sprint(done["role"], "/", done["version"])
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.versions[key] {
		c.Errorf("%s was answered twice", key)
	}
	c.versions[key] = true
}

// ownFields are settings that exactly one client each writes, and nothing else.
var ownFields = []struct{ path, field string }{
	{"config", "history_retention"},
	{"config", "max_retries"},
	{"config", "max_workers"},
	{"roles/default", "max_retries"},
	{"roles/default", "retry_interval"},
	{"roles/default", "refresh_interval"},
	{"roles/second", "max_retries"},
	{"roles/single", "retry_interval"},
	{"connections/main", "connect_timeout"},
	{"connections/main", "max_open_connections"},
}

// update writes a setting that is this client's own, to a value it never had.
func (c *crowd) update(number int, i int64) {
	own, value := ownFields[number], 10+i
	answer := c.send(http.MethodPost, own.path, map[string]any{own.field: value})
	if answer.status == http.StatusNoContent || answer.status == http.StatusOK { // with a warning
		c.mu.Lock()
		c.set[own.path+" "+own.field] = value
		c.mu.Unlock()
	}
}

// comeAndGo deletes roles and secrets, and makes them again.
func (c *crowd) comeAndGo(role string, random *rand.Rand) {
	switch random.IntN(7) {
	case 0:
		for _, path := range []string{"secrets/" + role + "/db", "secrets/" + role + "/jwt", "roles/" + role} {
			c.send(http.MethodDelete, path, nil)
		}
	case 1:
		c.send(http.MethodDelete, "secrets/"+role+"/jwt", nil)
	case 2:
		c.send(http.MethodPost, "secrets/"+role+"/db", c.database(role))
	case 3, 4:
		c.send(http.MethodPost, "secrets/"+role+"/jwt", map[string]any{"type": "jwt"})
	case 5:
		c.send(http.MethodPost, "roles/"+role, nil)
	default:
		c.rotate("rotate/"+role, map[string]any{"wait": "60s"})
	}
}

// look reads what is no secret, and tries to delete the connection in use.
func (c *crowd) look(random *rand.Rand) {
	paths := []string{"status/default", "history/second", "verify/default", "connections/main", "roles?list=true", "secrets/fleeting1?list=true"}
	if random.IntN(4) == 0 {
		if answer := c.send(http.MethodDelete, "connections/main", nil); answer.status != badRequest && answer.status != conflict {
			c.Errorf("deleting a connection in use answered %d", answer.status)
		}
		return
	}
	answer := c.send(http.MethodGet, paths[random.IntN(len(paths))], nil)
	if data := answer.data(); data["chain_valid"] == false {
		c.Errorf("the history is not complete: %v", data["problem"])
	}
}

// reads uses what creds answer at that moment.
func (c *crowd) reads(role string, known map[string]int64) {
	answer := c.send(http.MethodGet, "creds/"+role, nil)
	if answer.status != http.StatusOK {
		return
	}
	creds := answer.data()
	version := number(c.T, creds, "version")
	if version < known[role] {
		c.Errorf("%s went from version %d to %d", role, known[role], version)
	}
	known[role] = version
	c.same(role, creds)
	if creds["db_password"] != nil && slices.Contains([]string{"default", "second"}, role) {
		c.use(role, version, creds)
	}
}

// same holds that one version has one set of values, whoever reads it.
func (c *crowd) same(role string, creds map[string]any) {
	values, err := json.Marshal([]any{
		creds["db_username"], creds["db_password"], creds["jwt_secret"], creds["jwt_kid"], creds["api_key"], creds["last_vault_rotation"],
	})
	if err != nil {
		c.Error(err)
	}
	key := fmt.Sprint(role, "/", creds["version"])
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, ok := c.values[key]; ok && before != string(values) {
		c.Errorf("%s is two sets of values", key)
	}
	c.values[key] = string(values)
}

// use logs in. The login of a version works at least until the next version is
// there: only the rotation after that makes its user idle and then another's.
func (c *crowd) use(role string, version int64, creds map[string]any) {
	err := c.login(creds)
	var refusal *pgconn.PgError
	if err == nil || errors.As(err, &refusal) && refusal.Code == "53300" { // too many connections
		return
	}
	if now := c.raw.do(http.MethodGet, "creds/"+role, nil).data(); number(c.T, now, "version") == version {
		c.Errorf("version %d of %s does not work: %v", version, role, err)
	}
}

// check looks at what is there when all is over.
func (c *crowd) check() {
	c.Helper()
	for _, own := range ownFields {
		want, acknowledged := c.set[own.path+" "+own.field]
		if got := number(c.T, c.read(own.path), own.field); acknowledged && got != want {
			c.Errorf("%s of %s is %d, and %d was acknowledged", own.field, own.path, got, want)
		}
	}
	for _, role := range append(lasting, fleeting...) {
		if answer := c.raw.do(http.MethodGet, "history/"+role, nil); answer.data()["chain_valid"] != true {
			c.Errorf("the history of %s: %s", role, answer.cause())
		}
	}
	for _, role := range lasting {
		c.write("rotate/"+role, nil)
		if report := c.read("verify/" + role); report["valid"] != true {
			c.Errorf("verify %s reports %v", role, report)
		}
	}
	if len(c.versions) == 0 || c.statuses[http.StatusConflict] == 0 {
		c.Errorf("%d operations completed, %d were in conflict: nothing was tried", len(c.versions), c.statuses[http.StatusConflict])
	}
}
