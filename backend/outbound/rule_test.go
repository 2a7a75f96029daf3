package outbound

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

// listing is the rule for these hosts.
func listing(t *testing.T, texts ...string) Rule {
	t.Helper()
	hosts, err := ParseHosts(texts)
	if err != nil {
		t.Fatal(err)
	}
	return Rule{Hosts: hosts}
}

// TestRuleOfAddresses asks a rule about every spelling of an address that might be
// read one way by it and another way by those who connect.
func TestRuleOfAddresses(t *testing.T) {
	t.Parallel()
	rule := listing(t, "orders.example.com", "*.apps.example.com:8443", "192.0.2.7", "198.51.100.0/24", "2001:db8::/32", "[2001:db9::1]:8443", "127.0.0.1", "xn--bcher-kva.example")
	const yes, unlisted, never, form = "", "outbound_hosts does not name it", "nothing is ever sent there", "has a "
	for address, want := range map[string]string{
		"https://orders.example.com":               yes,
		"https://orders.example.com:9443/x?y#z":    yes,
		"https://ORDERS.Example.COM/":              yes,
		"HTTPS://orders.example.com/":              yes,
		"https://orders.example.com./":             yes,
		"https://xn--bcher-kva.example/":           yes,
		"https://a.apps.example.com:8443":          yes,
		"https://b.a.apps.example.com:8443":        yes,
		"https://192.0.2.7":                        yes,
		"https://[::ffff:192.0.2.7]":               yes,
		"https://[::ffff:c000:207]":                yes,
		"https://198.51.100.255":                   yes,
		"https://[2001:db8:1::1]":                  yes,
		"https://[2001:DB8:1:0:0:0:0:1]":           yes,
		"https://[2001:db9::1]:8443":               yes,
		"http://127.0.0.1:8080":                    yes,
		"http://[::ffff:127.0.0.1]:8080":           yes,
		"https://evil.example.com":                 undecided,
		"https://orders.example.com.evil.example":  undecided,
		"https://evilorders.example.com":           undecided,
		"https://a.apps.example.com":               undecided,
		"https://apps.example.com:8443":            undecided,
		"https://evilapps.example.com:8443":        undecided,
		"https://evil.example#orders.example.com":  undecided,
		"https://evil.example?orders.example.com":  undecided,
		"https://evil.example/@orders.example.com": undecided,
		"https://192.0.2.8":                        unlisted,
		"https://198.51.101.0":                     unlisted,
		"https://[2001:db9::1]":                    unlisted,
		"https://[2001:db9::2]:8443":               unlisted,
		"https://127.0.0.2":                        unlisted,
		"https://[::1]":                            unlisted,
		"http://orders.example.com":                "in clear",
		"http://192.0.2.7":                         "in clear",
		"http://localhost.orders.example.com":      "in clear",
		"https://169.254.169.254":                  never,
		"https://[::ffff:169.254.169.254]":         never,
		"https://[64:ff9b::a9fe:a9fe]":             never,
		"https://metadata.google.internal":         never,
		"https://METADATA.google.internal.":        never,
		"https://0.0.0.0":                          never,
		"https://2130706433":                       form,
		"https://017700000001":                     form,
		"https://0x7f000001":                       form,
		"https://0x7f.1":                           form,
		"https://127.1":                            form,
		"https://0300.0.2.7":                       form,
		"https://192.0.2.7.":                       yes,
		"https://192.0.2.07":                       form,
		"https://orders.example.com:0":             form,
		"https://orders.example.com:65536":         form,
		"https://[fe80::1%25eth0]":                 "has an interface zone",
		"https://orders.example.com@evil.example":  "user name",
		"https://u:p@orders.example.com":           "user name",
		"https://bücher.example":                   form,
		"https://orders。example.com":               form,
		"https://orders.example.com;evil":          form,
		"https://a$(id)":                           form,
		"https://a,b.example.com":                  form,
		"https://orders..example.com":              form,
		"https://.example.com":                     form,
		"https://*.apps.example.com":               form,
		"https://orders.example.com\\@evil":        "must be like",
		"https://orders.example.com\r\nHost:x":     "must be like",
		"https://orders.example.com%2eevil":        "must be like",
		"https:orders.example.com":                 "must be like",
		"//orders.example.com":                     "must be like",
		"https:///orders.example.com":              "must be like",
		"https://[orders.example.com]":             "must be like",
		"ftp://orders.example.com":                 "must be like",
		"unix:///var/run/x.sock":                   "must be like",
		"https://orders.example.com/{{api_key}}":   "placeholder",
		"":                                         "must be like",
	} {
		judge(t, rule, address, want)
	}
}

// undecided is for names that may yet resolve to a network that is listed.
const undecided = "undecided"

func judge(t *testing.T, rule Rule, address, want string) {
	t.Helper()
	err := rule.Check(address, true)
	if want == undecided {
		if err != nil {
			t.Errorf("%q is judged before it is resolved: %v", address, err)
		}
		want = "outbound_hosts does not name it"
		rule.Proxy = &url.URL{Scheme: "http", Host: "127.0.0.1:1"} // where nothing is resolved
		err = rule.Check(address, true)
	}
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%q: %v, want %q", address, err, want)
	}
}

// TestNothingListed lets pass what carries nothing, and nothing else.
func TestNothingListed(t *testing.T) {
	t.Parallel()
	for _, rule := range []Rule{{}, listing(t)} {
		for _, address := range []string{"https://orders.example.com", "http://127.0.0.1:8080", "https://localhost", "https://192.0.2.7"} {
			if err := rule.Check(address, true); err == nil {
				t.Errorf("values may go to %s", address)
			}
			if err := rule.Check(address, false); err != nil {
				t.Errorf("nothing at all may go to %s: %v", address, err)
			}
		}
	}
}

// TestKept goes on with what was stored before, until somebody has said.
func TestKept(t *testing.T) {
	t.Parallel()
	const old = "http://orders.example.com"
	for _, c := range []struct {
		rule    Rule
		checked bool
		want    string
	}{
		{Rule{}, false, Kept},
		{Rule{}, true, Refused},
		{listing(t), false, Refused},
		{listing(t, "orders.example.com"), false, Refused}, // in clear
	} {
		if got := c.rule.For(c.checked).Standing(old, true); got != c.want {
			t.Errorf("checked %t, with %v, it is %s, want %s", c.checked, c.rule.Hosts, got, c.want)
		}
	}
	if err := (Rule{}).For(false).Check("http://169.254.169.254", true); err == nil {
		t.Error("what was stored before may be sent to the metadata")
	}
}

// TestUses are what a host may be limited to.
func TestUses(t *testing.T) {
	t.Parallel()
	rule := listing(t, "all.example.com", "checks=orders.example.com", "destinations=192.0.2.0/24")
	for use, want := range map[string][3]bool{
		ForChecks: {true, true, false}, ForAlerts: {true, false, false}, ForDestinations: {true, false, true}, "": {true, false, false},
	} {
		rule.Use = use
		for i, address := range []string{"https://all.example.com", "https://orders.example.com", "https://192.0.2.7"} {
			rule.Proxy = &url.URL{Scheme: "http", Host: "127.0.0.1:1"} // where nothing is resolved
			if err := rule.Check(address, true); (err == nil) != want[i] {
				t.Errorf("for %q, %s: %v", use, address, err)
			}
		}
		resolved, err := newTarget("192.0.2.7", "443")
		if err != nil {
			t.Fatal(err)
		}
		if err := rule.reach(target{scheme: "https", name: "kv.example.com", port: "443"}, resolved.ip, true); (err == nil) != want[2] {
			t.Errorf("for %q, a name at 192.0.2.7: %v", use, err)
		}
	}
}

// TestCommand is what an administrator is told to run: with what is listed, since a
// write replaces that, and with nothing that a shell would take for its own.
func TestCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule          Rule
		address, want string
	}{
		{Rule{}, "https://orders.example.com/path-secret?q", "vault write smvm/config outbound_hosts=orders.example.com"},
		{listing(t, "a.example.com"), "https://orders.example.com:8443", "outbound_hosts=a.example.com,orders.example.com:8443"},
		{listing(t, "*.a.example.com"), "https://[2001:db8::1]", "outbound_hosts='*.a.example.com,2001:db8::1'"},
		{Rule{Use: ForChecks, Hosts: listing(t, "destinations=orders.example.com").Hosts}, "https://orders.example.com", "outbound_hosts=destinations=orders.example.com,checks=orders.example.com"},
		{Rule{}, "https://[2001:db8::1]:8443", "outbound_hosts='[2001:db8::1]:8443'"},
		{listing(t, strings.Fields(strings.Repeat("orders.example.com ", 60))...), "https://new.example.com", "outbound_hosts='…,new.example.com'"},
	} {
		var refused *Refusal
		if err := c.rule.Check(c.address, true); !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "path-secret") {
			t.Errorf("%s: %v, want %s", c.address, err, c.want)
		}
	}
}

// TestProxies are read.
func TestProxies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http://proxy.example.com:3128": "", "https://proxy.example.com": "", "http://127.0.0.1:3128/": "", "": "",
		"http://user:pass@proxy:3128": "user name", "http://user@proxy:3128": "user name", "socks5://proxy": "must be like", "proxy:3128": "must be like",
		"http://proxy/path": "must be like", "http://proxy?x": "must be like", "http://169.254.169.254": "nothing is ever sent", "http://proxy:0": "port",
	} {
		if _, err := ParseProxy(text); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
