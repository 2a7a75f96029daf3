package acceptance

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

var (
	hostileSeed  = flag.Uint64("hostile-seed", 1, "what TestHostileInput generates its requests from")
	hostileCount = flag.Int("hostile-requests", 1600, "how many requests TestHostileInput makes")
)

// attackers is how many send at the same time.
const attackers = 4

// TestHostileInput sends to every operation that the engine declares what nobody
// should: nothing fails but the request, nothing is slow, and what is there stays.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t) // whose plugin it may reload
	e.write("roles/witness", map[string]any{"rotation_period": "24h", "overlap": "6h", "refresh_interval": "1h"})
	e.write("secrets/witness/jwt", map[string]any{"type": "jwt"})
	e.write("secrets/witness/pin", map[string]any{"type": "random"})
	before := e.read("creds/witness")
	for _, name := range names {
		e.write("roles/"+name, nil)
		e.write("secrets/"+name+"/one", map[string]any{"type": "api_key"})
	}
	endpoints := e.endpoints()
	var working sync.WaitGroup
	crowd := make([]*attacker, attackers)
	for i := range crowd {
		a := &attacker{raw: e.raw(), hostile: newHostile(*hostileSeed, uint64(i)), number: i, endpoints: endpoints, statuses: map[int]int{}}
		crowd[i] = a
		working.Go(func() { a.attack(*hostileCount / attackers) })
	}
	working.Wait()
	e.unimpressed(before)
	for _, a := range crowd {
		t.Logf("seed %d, attacker %d: requests by status %v, the slowest took %s", *hostileSeed, a.number, a.statuses, a.slowest)
	}
	if t.Failed() {
		t.Logf("to repeat it: go test -run TestHostileInput -hostile-seed %d -hostile-requests %d", *hostileSeed, *hostileCount)
	}
}

// unimpressed checks that everything can still be read, also by a plugin that
// starts anew, and that the witness is what it was.
func (e *engine) unimpressed(before map[string]any) {
	e.Helper()
	if _, err := e.vault.Client.Sys().ReloadPluginWithContext(e.Context(), &api.ReloadPluginInput{Mounts: []string{e.path + "/"}}); err != nil {
		e.Fatal(err)
	}
	after := e.read("creds/witness")
	for name, value := range before {
		if name != "ttl" && after[name] != value {
			e.Errorf("%s of the witness became %v", name, after[name])
		}
	}
	for _, subjects := range []string{"roles", "connections"} {
		resp, err := e.client.Logical().ListWithContext(e.Context(), e.path+"/"+subjects)
		if err != nil {
			e.Fatal(err)
		}
		if resp == nil {
			continue
		}
		for name, info := range resp.Data["key_info"].(map[string]any) {
			if problem := info.(map[string]any)["error"]; problem != nil {
				e.Errorf("%s %q cannot be read: %v", subjects, name, problem)
			}
			history := map[string]string{"roles": "history/" + name, "connections": "connections/" + name + "/history"}[subjects]
			if answer := e.raw().do(http.MethodGet, history, nil); answer.status == http.StatusOK && answer.data()["chain_valid"] != true {
				e.Errorf("the history of %s %q: %s", subjects, name, answer.cause())
			}
		}
	}
}

// attacker makes requests.
type attacker struct {
	*raw
	*hostile
	number    int
	endpoints []endpoint
	statuses  map[int]int
	slowest   time.Duration
}

func (a *attacker) attack(count int) {
	for i := range count {
		at := a.endpoints[(i+a.IntN(3))%len(a.endpoints)]
		path, decent := a.path(at.path)
		var body []byte
		switch at.method {
		case http.MethodPost:
			body = a.body(at, path)
		case list:
			path += "?list=true" + a.parameters(at.query, "&")
		case http.MethodGet:
			path += a.parameters(at.query, "?")
		}
		method := map[string]string{list: http.MethodGet}[at.method]
		if method == "" {
			method = at.method
		}
		answer := a.send(a.Context(), method, path, body)
		a.statuses[answer.status]++
		a.slowest = max(a.slowest, answer.took)
		if problem := a.judge(at, decent, answer); problem != nil {
			a.Errorf("request %d of attacker %d: %s %s with %.300q: %v", i, a.number, method, path, body, problem)
		}
	}
}

// judge says what is wrong with an answer.
func (a *attacker) judge(at endpoint, decent bool, answer reply) error {
	if byVault(answer) {
		return nil
	}
	allowed := []int{http.StatusOK, http.StatusNoContent, badRequest, conflict, unprocessable}
	if !decent || at.method == http.MethodGet || at.method == list {
		allowed = append(allowed, http.StatusNotFound)
	}
	if !decent { // a name such as "." leads to another path, which may lack the operation
		allowed = append(allowed, http.StatusMethodNotAllowed)
	}
	switch {
	case !slices.Contains(allowed, answer.status):
		return fmt.Errorf("answered %d: %.2000s", answer.status, answer.cause())
	case answer.status >= badRequest && len(answer.body) > 4096:
		return fmt.Errorf("the refusal is %d bytes long: %.500s", len(answer.body), answer.cause())
	case answer.took > 20*time.Second:
		return fmt.Errorf("answered after %s", answer.took)
	}
	return nil
}

// byVault recognizes what Vault answers before it asks the engine: to JSON that is
// not well formed, and to paths with characters that cannot be printed.
func byVault(answer reply) bool {
	cause := answer.cause()
	switch answer.status {
	case http.StatusInternalServerError:
		return slices.ContainsFunc([]string{"malformed JSON", "duplicate key", "after top-level value", "nesting depth"}, func(words string) bool {
			return strings.Contains(cause, words)
		})
	case badRequest:
		return cause == ""
	}
	return false
}

// names of roles, secrets and connections.
var names = []string{"one", "two", "Three_3", "default"}

// longestName of a path: with more of them Vault itself takes long, quadratically.
const longestName = 1025

// path fills in names: mostly decent ones, but never the witness's.
func (a *attacker) path(template string) (path string, decent bool) {
	decent = true
	parts := strings.Split(template, "/")
	for i, part := range parts {
		if !strings.HasPrefix(part, "{") {
			continue
		}
		parts[i] = names[a.IntN(len(names))]
		if a.IntN(12) == 0 {
			name := a.text()
			parts[i], decent = url.PathEscape(name[:min(len(name), longestName)]), false
		}
	}
	return strings.Join(parts, "/"), decent
}

// parameters makes a query.
func (a *attacker) parameters(names []string, separator string) string {
	values := url.Values{}
	for _, name := range slices.Concat(names, []string{"unknown"}) { // the names are every attacker's
		if name != "list" && a.IntN(4) == 0 {
			values.Set(name, a.text())
		}
	}
	if len(values) == 0 {
		return ""
	}
	return separator + values.Encode()
}

// body makes the request's data: what would be right, with up to two of its fields
// replaced; sometimes no data at all.
func (a *attacker) body(at endpoint, path string) []byte {
	if a.IntN(25) == 0 {
		return a.noObject()
	}
	fields := a.decent(path)
	for range a.IntN(3) {
		name := a.text()
		if len(at.fields) > 0 && a.IntN(12) > 0 {
			name = at.fields[a.IntN(len(at.fields))]
		}
		fields[name] = a.value(name)
	}
	body, err := json.Marshal(fields)
	if err != nil {
		a.Fatal(err)
	}
	return body
}

// decent is data that the engine takes, so that what is replaced is looked at.
func (a *attacker) decent(path string) map[string]json.RawMessage {
	text := `{}`
	switch {
	case strings.HasPrefix(path, "connections/"):
		text = `{"host":"127.0.0.1","port":1,"database":"d","username":"u","password":"` + a.unique() + `","verify_connection":false,"connect_timeout":1}`
	case strings.HasPrefix(path, "secrets/"):
		text = []string{
			`{"type":"jwt"}`, `{"type":"api_key"}`, `{"type":"random"}`,
			`{"type":"random","skip_import_rotation":true,"value":"` + a.unique() + `"}`,
			`{"type":"database","connection":"one","usernames":["u1"]}`,
		}[a.IntN(5)]
	case strings.HasPrefix(path, "rot"), strings.HasPrefix(path, "rollback"):
		text = `{"wait":1}`
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		a.Fatal(err)
	}
	return fields
}
