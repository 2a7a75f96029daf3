package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// TestDeliveredTwice sends requests again with the same id, as Vault does when a
// plugin dies while it answers: what was done is not done again.
func TestDeliveredTwice(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", nil)
	for _, step := range []struct {
		path string
		data map[string]any
	}{
		{"secrets/r/db", d("type", "database", "connection", "main", "usernames", s.user())},
		{"secrets/r/pin", d("type", "random")},
		{"secrets/r/key", d("type", "api_key", "skip_import_rotation", true, "key", "imported-key-0123456789")},
		{"rotate/r", d("reason", "twice")},
		{"rollback/r", d("secrets", "pin")},
		{"rotate/r", d("revoke_previous", true)},
	} {
		req := m.request(logical.UpdateOperation, step.path, step.data)
		first, before := m.must(m.send(req)), m.read("creds/r", nil)
		for _, crash := range []bool{false, true} {
			if crash {
				m.boot()
			}
			again := m.must(m.send(req))
			if fmt.Sprint(again) != fmt.Sprint(first) {
				t.Errorf("%s, delivered again after a crash: %v, answers %v, want %v", step.path, crash, again, first)
			}
			if after := m.read("creds/r", nil); after["version"] != before["version"] {
				t.Errorf("%s, delivered again, was done again", step.path)
			}
		}
	}
	for _, path := range []string{"secrets/r/pin", "secrets/r/key", "secrets/r/db", "roles/r", "connections/main"} {
		req := m.request(logical.DeleteOperation, path, nil)
		m.must(m.send(req))
		count := len(m.storage.contents(t))
		m.must(m.send(req))
		if now := len(m.storage.contents(t)); now != count {
			t.Errorf("deleting %s, delivered again, left %d entries of %d", path, now, count)
		}
	}
}

// TestDurations gives every path that takes a duration one that is none.
func TestDurations(t *testing.T) {
	m := newMount(t)
	tried := 0
	for _, path := range m.b.Paths {
		for name, field := range path.Fields {
			if field.Type != framework.TypeDurationSecond {
				continue
			}
			tried++
			for value, want := range map[any]string{
				"30days":                `"30days" is not a duration: write a number of seconds, or a number with a unit: 90d, 12h, 30m, 45s`,
				"a while":               `"a while" is not a duration: write`,
				"1.5d":                  `"1.5d" is not a duration: write`,
				true:                    `"true" is not a duration: write`,
				"-30d":                  `"-30d" is negative: write`,
				-5:                      `"-5" is negative: write`,
				"99999999999999":        `"99999999999999" is too long a duration`,
				json.Number("9000000d"): `"9000000d" is too long a duration`,
				"90d":                   "", "12h": "", "30m": "", "45s": "", "1h30m": "", "90": "", 90: "", json.Number("90"): "", "": "", nil: "",
			} {
				err := checkFields(path, map[string]any{name: value})
				if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(plainly(err), name+": "+want)) {
					t.Errorf("%s: %s=%v: %v, want %q", path.Pattern, name, value, err, want)
				}
			}
		}
	}
	if tried < 15 {
		t.Errorf("only %d fields take a duration", tried)
	}
	m.refused(logical.UpdateOperation, "roles/r", d("rotation_period", "30days"), `rotation_period: "30days" is not a duration`)
	m.refused(logical.UpdateOperation, "rotate/r", d("wait", "30days"), `wait: "30days" is not a duration`)
}

// TestForms gives every path that takes a boolean or a whole number something else.
func TestForms(t *testing.T) {
	m := newMount(t)
	forms := map[framework.FieldType]map[any]string{
		framework.TypeBool: {
			"yes": `"yes" is not a boolean: write true or false`, "on": `"on" is not a boolean`, "2x": `"2x" is not a boolean`,
			"true": "", "false": "", true: "", "1": "",
		},
		framework.TypeInt: {
			"x": `"x" is not a whole number: write digits only, such as 3`, "1.5": `"1.5" is not a whole number`, "1k": `"1k" is not a whole number`,
			"3": "", 3: "", json.Number("3"): "",
		},
		framework.TypeCommaIntSlice: {"2xx": `"2xx" is not a list of whole numbers: separate them by commas, such as 200,204`, "200,204": "", 200: ""},
	}
	tried := map[framework.FieldType]int{}
	for _, path := range m.b.Paths {
		for name, field := range path.Fields {
			for value, want := range forms[field.Type] {
				tried[field.Type]++
				err := checkFields(path, map[string]any{name: value})
				if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(plainly(err), name+": "+want)) {
					t.Errorf("%s: %s=%v: %v, want %q", path.Pattern, name, value, err, want)
				}
			}
		}
	}
	for kind := range forms {
		if tried[kind] == 0 {
			t.Errorf("no field is a %s", kind)
		}
	}
	m.refused(logical.UpdateOperation, "rotate/r", d("dry_run", "yes"), `dry_run: "yes" is not a boolean`)
	m.refused(logical.ReadOperation, "creds/r", d("if_version", "x"), `if_version: "x" is not a whole number`)
}

// plainly is the text of a refusal as the response has it.
func plainly(err error) string {
	resp, _ := errorResponse(err)
	return resp.Error().Error()
}

// TestJoin delivers a request again while it is under way.
func TestJoin(t *testing.T) {
	m := newMount(t)
	entered, leave := make(chan struct{}, 9), make(chan struct{})
	open := m.gate("gated", entered, leave)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random", "password_policy", "gated"))
	open(false)
	req := m.request(logical.UpdateOperation, "rotate/r", nil)
	var answers [2]map[string]any
	var both sync.WaitGroup
	for i := range answers {
		both.Go(func() {
			resp, err := m.b.HandleRequest(context.Background(), req)
			if err == nil {
				answers[i] = resp.Data
			}
		})
	}
	<-entered
	m.fails(409, logical.UpdateOperation, "rotate/r", nil, "rotate", "of r has been under way since")
	m.fails(409, logical.UpdateOperation, "secrets/r/other", d("type", "jwt"), "under way")
	close(leave)
	both.Wait()
	if answers[0] == nil || answers[0]["version"] != 2 || fmt.Sprint(answers[0]) != fmt.Sprint(answers[1]) {
		t.Errorf("one request, delivered twice, answers %v", answers)
	}
	if version := m.read("creds/r", nil)["version"]; version != 2 {
		t.Errorf("the version is %v", version)
	}
}

// gate makes a policy whose passwords, once it is closed, wait for leave.
func (m *mount) gate(name string, entered chan<- struct{}, leave <-chan struct{}) (open func(bool)) {
	var mu sync.Mutex
	isOpen := true
	m.policy(name, func() (string, error) {
		mu.Lock()
		wait := !isOpen
		mu.Unlock()
		if wait {
			entered <- struct{}{}
			<-leave
		}
		return "gated-" + uid(m.T), nil
	})
	return func(now bool) {
		mu.Lock()
		defer mu.Unlock()
		isOpen = now
	}
}

// TestCreateAtOnce lets many create the same secret, and many the same user.
func TestCreateAtOnce(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	user := s.user()
	for i := range 6 {
		m.write(fmt.Sprintf("roles/r%d", i), nil)
	}
	created, mu := 0, sync.Mutex{}
	var all sync.WaitGroup
	for i := range 6 {
		req := m.request(logical.UpdateOperation, fmt.Sprintf("secrets/r%d/db", i), d("type", "database", "connection", "main", "usernames", user))
		all.Go(func() {
			resp, err := m.b.HandleRequest(context.Background(), req)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && !resp.IsError() {
				created++
			}
		})
	}
	all.Wait()
	if created != 1 {
		t.Errorf("%d roles manage the same user", created)
	}
}

// TestConfiguredAtOnce has a role's secrets, checks and destinations made at once, as a
// program does that writes a whole configuration: none is refused, and each secret is a
// version of its own. So it is when they are deleted.
func TestConfiguredAtOnce(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("config", d("outbound_hosts", "127.0.0.1"))
	m.write("roles/r", nil)
	hook := newReceiver(t).URL
	secrets := map[string]map[string]any{
		"db":     d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair()),
		"legacy": d("type", "database", "connection", "main", "usernames", s.user()),
		"jwt":    d("type", "jwt"), "api": d("type", "api_key"), "pin": d("type", "random"),
		"taken": d("type", "random", "skip_import_rotation", true, "value", "a-value-in-use-0123456789"),
	}
	m.atOnce(logical.CreateOperation, func(send func(string, map[string]any)) {
		for name, data := range secrets {
			send("secrets/r/"+name, data)
		}
		for i := range 3 {
			send(fmt.Sprintf("checks/r/c%d", i), d("url", hook))
			send(fmt.Sprintf("destinations/d%d", i), d("type", "webhook", "url", hook, "key", "0123456789abcdef", "values", "pin={{pin_value}}"))
		}
	})
	if version := m.read("creds/r", nil)["version"]; version != len(secrets) || len(m.list("checks/r")) != 3 || len(m.list("destinations")) != 3 {
		t.Errorf("it is version %v, with checks %v", version, m.list("checks/r"))
	}
	m.atOnce(logical.DeleteOperation, func(send func(string, map[string]any)) {
		for name := range secrets {
			send("secrets/r/"+name, nil)
		}
	})
	if h := m.read("history/r", nil); h["chain_valid"] != true || len(m.list("secrets/r")) != 0 {
		t.Errorf("the history is %v, and left are %v", h, m.list("secrets/r"))
	}
}

// atOnce sends all requests that are given to it at once, and has none of them fail.
func (m *mount) atOnce(op logical.Operation, requests func(send func(path string, data map[string]any))) {
	m.Helper()
	var all sync.WaitGroup
	requests(func(path string, data map[string]any) {
		req := m.request(op, path, data)
		all.Go(func() {
			if resp, err := m.b.HandleRequest(context.Background(), req); err != nil || resp.IsError() {
				m.Errorf("%s %s: %v, %v", op, path, resp, err)
			}
		})
	})
	all.Wait()
}

// TestClientGoesAway ends a request while its rotation runs: that goes on.
func TestClientGoesAway(t *testing.T) {
	m := newMount(t)
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	open := m.gate("gated", entered, leave)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random", "password_policy", "gated"))
	open(false)
	ctx, cancel := context.WithCancel(t.Context())
	req := m.request(logical.UpdateOperation, "rotate/r", d("wait", "60s"))
	answered := make(chan error, 1)
	go func() {
		_, err := m.b.HandleRequest(ctx, req)
		answered <- err
	}()
	<-entered
	cancel()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	close(leave)
	m.eventually("the end of the rotation", func() bool { return m.read("creds/r", nil)["version"] == 2 })
}
