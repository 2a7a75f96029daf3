package backend

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// bad is a request that must be refused, and what the refusal must say: the
// field, and the fix.
type bad struct {
	name string
	op   logical.Operation
	path string
	data map[string]any
	says []string
}

// refuse sends each of them, and each must change nothing.
func (m *mount) refuse(cases []bad) {
	m.Helper()
	parent := m.T
	defer func() { m.T = parent }()
	for _, c := range cases {
		parent.Run(c.name, func(t *testing.T) {
			m.T = t
			op := c.op
			if op == "" {
				op = logical.UpdateOperation
			}
			m.refused(op, c.path, c.data, c.says...)
		})
	}
}

// d makes the data of a request from names and values in turn.
func d(pairs ...any) map[string]any {
	data := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		data[pairs[i].(string)] = pairs[i+1]
	}
	return data
}

func TestBadConfig(t *testing.T) {
	m := newMount(t)
	m.write("config", d("environment", "test"))
	m.refuse([]bad{
		{"unknown field", "", "config", d("enviroment", "x"), []string{"enviroment", "it has:", "environment"}},
		{"environment too long", "", "config", d("environment", strings.Repeat("x", 129)), []string{"environment", "limit is 128"}},
		{"period too short", "", "config", d("rotation_period", 59), []string{"rotation_period", "1m or more"}},
		{"zero overlap", "", "config", d("overlap", 0), []string{"overlap", "more than zero"}},
		{"negative refresh", "", "config", d("refresh_interval", -1), []string{"refresh_interval", "negative"}},
		{"retry too long", "", "config", d("retry_interval", "2h"), []string{"retry_interval", "at most 1h"}},
		{"no retries", "", "config", d("max_retries", 0), []string{"max_retries", "from 1 to 1000"}},
		{"too many workers", "", "config", d("max_workers", 65), []string{"max_workers", "from 1 to 64"}},
		{"history too short", "", "config", d("history_retention", 9), []string{"history_retention", "from 10"}},
		{"no host", "", "config", d("outbound_hosts", "orders.example.com,https://x"), []string{"outbound_hosts", `"https://x"`, "neither a host nor a network", "*.example.com"}},
		{"link-local host", "", "config", d("outbound_hosts", "169.254.169.254"), []string{"outbound_hosts", "nothing is ever sent there"}},
		{"no network", "", "config", d("outbound_hosts", "10.1.2.3/8"), []string{"outbound_hosts", "write 10.0.0.0/8"}},
		{"no proxy", "", "config", d("outbound_proxy", "proxy:3128"), []string{"outbound_proxy", "http://proxy.example.com:3128"}},
		{"proxy with a password", "", "config", d("outbound_proxy", "http://u:p@proxy:3128"), []string{"outbound_proxy", "user name"}},
		{"no number", "", "config", d("max_workers", "many"), []string{"max_workers"}},
		{"no duration", "", "config", d("overlap", "a while"), []string{"overlap"}},
		{"too long a duration", "", "config", d("overlap", "99999999999999"), []string{"overlap"}},
		{"half is good", "", "config", d("environment", "changed", "max_workers", 0), []string{"max_workers"}},
	})
	if got := m.read("config", nil)["environment"]; got != "test" {
		t.Errorf("a refused write changed the environment to %v", got)
	}
}

func TestBadRole(t *testing.T) {
	m := newMount(t)
	m.write("roles/kept", d("rotation_schedule", "0 3 * * *", "rotation_window", "2h", "overlap", "6h"))
	both := []string{"rotation_period", "rotation_schedule", "only one"}
	five := []string{"rotation_schedule", "five", "minute, hour, day of month, month, day of week"}
	m.refuse([]bad{
		{"unknown field", "", "roles/new", d("rotation_perid", 60), []string{"rotation_perid", "it has:", "rotation_period"}},
		{"period and schedule", "", "roles/new", d("rotation_period", 60, "rotation_schedule", "0 3 * * *"), both},
		{"period and schedule, existing", "", "roles/kept", d("rotation_period", 60, "rotation_schedule", "0 3 * * *"), both},
		{"period too short", "", "roles/new", d("rotation_period", 59), []string{"rotation_period", "1m or more"}},
		{"period zero", "", "roles/new", d("rotation_period", 0), []string{"rotation_period", "1m or more"}},
		{"period negative", "", "roles/new", d("rotation_period", -60), []string{"rotation_period", "negative"}},
		{"period of centuries", "", "roles/new", d("rotation_period", "2000000h"), []string{"rotation_period", "at most a hundred years"}},
		{"six fields", "", "roles/new", d("rotation_schedule", "0 0 3 * * *"), five},
		{"no fields", "", "roles/new", d("rotation_schedule", ""), five},
		{"descriptor", "", "roles/new", d("rotation_schedule", "@daily"), five},
		{"time zone", "", "roles/new", d("rotation_schedule", "TZ=Asia/Tokyo 0 3 * * *"), five},
		{"time zone among five", "", "roles/new", d("rotation_schedule", "TZ=UTC 0 3 * *"), []string{"rotation_schedule", "UTC"}},
		{"no day", "", "roles/new", d("rotation_schedule", "0 3 * * FOO"), []string{"rotation_schedule", "FOO"}},
		{"no hour", "", "roles/new", d("rotation_schedule", "0 25 * * *"), []string{"rotation_schedule", "25"}},
		{"never", "", "roles/new", d("rotation_schedule", "0 0 30 2 *"), []string{"rotation_schedule", "never fires", "no such date"}},
		{"window without schedule", "", "roles/new", d("rotation_window", "2h"), []string{"rotation_window", "without rotation_schedule"}},
		{"window with period", "", "roles/kept", d("rotation_period", "24h", "rotation_window", "2h"), []string{"rotation_window", "without rotation_schedule"}},
		{"window too short", "", "roles/kept", d("rotation_window", "59m"), []string{"rotation_window: is 59m", "1h or more"}},
		{"overlap longer than period", "", "roles/new", d("rotation_period", "1h", "overlap", "61m"), []string{"overlap", "at most the 1h between"}},
		{"overlap longer than a new period", "", "roles/kept", d("rotation_period", "1h"), []string{"overlap", "at most the 1h between"}},
		{"overlap longer than the schedule", "", "roles/kept", d("overlap", "25h"), []string{"overlap", "at most the 24h between"}},
		{"overlap negative", "", "roles/new", d("overlap", -5), []string{"overlap", "negative"}},
		{"overlap zero", "", "roles/new", d("overlap", 0), []string{"overlap", "more than zero"}},
		{"overlap under two refreshes", "", "roles/kept", d("overlap", "10m", "refresh_interval", "6m"), []string{"overlap", "at least twice refresh_interval", "6m"}},
		{"refresh over half the overlap", "", "roles/kept", d("refresh_interval", "4h"), []string{"overlap", "at least twice refresh_interval"}},
		{"refresh negative", "", "roles/new", d("refresh_interval", "-1s"), []string{"refresh_interval", "negative"}},
		{"no retries", "", "roles/new", d("max_retries", -1), []string{"max_retries", "from 1"}},
		{"retry too long", "", "roles/new", d("retry_interval", "61m"), []string{"retry_interval", "at most 1h"}},
		{"no boolean", "", "roles/new", d("auto_rotate", "perhaps"), []string{"auto_rotate"}},
		{"object", "", "roles/new", d("rotation_schedule", map[string]any{"a": 1}), []string{"rotation_schedule", "object", "give a string"}},
		{"name beside the path", "", "roles/new", d("role", "other"), []string{"role", "path"}},
	})
	if roles := m.list("roles"); len(roles) != 1 {
		t.Errorf("there are roles %v", roles)
	}
}

func TestBadSecret(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/key", d("type", "api_key"))
	m.write("secrets/r/a", d("type", "jwt"))
	m.policy("broken", func() (string, error) { return "two\nlines-of-it", nil })
	unknownRole := []string{"role", "unknown role", "there is: r", "roles/nope first"}
	m.refuse([]bad{
		{"unknown role", "", "secrets/nope/x", d("type", "jwt"), unknownRole},
		{"unknown field", "", "secrets/r/x", d("type", "jwt", "algoritm", "HS256"), []string{"algoritm", "it has:", "algorithm"}},
		{"no type", "", "secrets/r/x", d("algorithm", "HS256"), []string{"type", "api_key, database, jwt, random"}},
		{"unknown type", "", "secrets/r/x", d("type", "ssh"), []string{"type", "ssh", "api_key, database, jwt, random"}},
		{"unknown algorithm", "", "secrets/r/x", d("type", "jwt", "algorithm", "HS1"), []string{"algorithm", "HS1", "use HS256"}},
		{"field of another type", "", "secrets/r/x", d("type", "jwt", "prefix", "p"), []string{"prefix", "api_key", "jwt, which has: algorithm"}},
		{"import field of another type", "", "secrets/r/x", d("type", "jwt", "skip_import_rotation", true, "key", strings.Repeat("k", 64)), []string{"key", "api_key"}},
		{"value without skip", "", "secrets/r/x", d("type", "random", "value", "to-be-imported"), []string{"value", "skip_import_rotation=true"}},
		{"skip without value", "", "secrets/r/x", d("type", "random", "skip_import_rotation", true), []string{"skip_import_rotation", "field value"}},
		{"import too short", "", "secrets/r/x", d("type", "jwt", "skip_import_rotation", true, "secret", "too-short-for-it"), []string{"secret", "at least 32"}},
		{"import key with spaces", "", "secrets/r/x", d("type", "api_key", "skip_import_rotation", true, "key", "a key with spaces in it"), []string{"key", "without spaces"}},
		{"import a list", "", "secrets/r/x", d("type", "random", "skip_import_rotation", true, "value", []any{"listed-value-1", "b"}), []string{"value", "give one text"}},
		{"bad prefix", "", "secrets/r/x", d("type", "api_key", "prefix", "no_underscore"), []string{"prefix", "letters and digits"}},
		{"bad length", "", "secrets/r/x", d("type", "api_key", "length", 21), []string{"length", "22 and 128"}},
		{"weak", "", "secrets/r/x", d("type", "random", "charset", "01", "length", 8), []string{"length", "longer length or charset"}},
		{"charset with repeats", "", "secrets/r/x", d("type", "random", "charset", "aab"), []string{"charset", "every character once"}},
		{"policy and length", "", "secrets/r/x", d("type", "random", "password_policy", "letters", "length", 40), []string{"password_policy", "leave these out"}},
		{"unknown policy", "", "secrets/r/x", d("type", "random", "password_policy", "nosuch"), []string{"password_policy", "nosuch", "sys/policies/password/nosuch"}},
		{"flattened name", "", "secrets/r/a_previous", d("type", "jwt"), []string{"name", "a_previous_algorithm", "secret a", "choose another name"}},
		{"new type", "", "secrets/r/key", d("type", "jwt"), []string{"type", "delete the secret and create it again"}},
		{"update to unknown algorithm", "", "secrets/r/a", d("algorithm", "none"), []string{"algorithm", "use HS256"}},
		{"update with a value", "", "secrets/r/a", d("secret", strings.Repeat("s", 64)), []string{"secret", "rotate gives it a new value"}},
		{"update with skip", "", "secrets/r/a", d("skip_import_rotation", true), []string{"skip_import_rotation", "rotate"}},
		{"update to another type's field", "", "secrets/r/a", d("charset", "abc"), []string{"charset", "random", "algorithm"}},
		{"name beside the path", "", "secrets/r/x", d("type", "jwt", "name", "y"), []string{"name", "path"}},
	})
}

// TestFlattening is about names whose answers would be the same in creds/:role.
func TestFlattening(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/a_previous", d("type", "api_key"))
	m.refused(logical.UpdateOperation, "secrets/r/a", d("type", "api_key"), "name", "a_previous_key", "secret a_previous", "choose another name")
	// A jwt named a answers other fields.
	m.write("secrets/r/a", d("type", "jwt"))
	m.write("rotate/r", nil)
	creds := m.read("creds/r", nil)
	if creds["a_previous_key"] != m.read("creds/r/a_previous", nil)["key"] {
		t.Error("a_previous_key is not the key of a_previous")
	}
}
