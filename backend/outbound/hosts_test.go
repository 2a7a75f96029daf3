package outbound

import (
	"net/netip"
	"strings"
	"testing"
)

// TestForbidden goes through the addresses that nothing is sent to, as they are and
// as IPv6 carries them, and through neighbours that are none of them.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for _, text := range strings.Fields(`169.254.0.0 169.254.169.254 169.254.255.255 fe80::1 febf::1 fd00:ec2::254 fd00:ec2::23
		fd20:ce::254 192.0.0.192 100.100.100.200 168.63.129.16 0.0.0.0 0.1.2.3 :: 224.0.0.1 239.255.255.255 255.255.255.255 240.0.0.1 ff02::1
		::ffff:169.254.169.254 ::ffff:0:169.254.169.254 ::169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b::6464:64c8 2002:a9fe:a9fe:: 2002:a9fe:1:2::3
		64:ff9b:1:a9fe:a9:fe00:: 64:ff9b:1:a9:fe:a9fe:: 64:ff9b:1:1:a9:fea9:fe00:0 64:ff9b:1::a9fe:a9fe fe80::1%eth0`) {
		if forbidden(netip.MustParseAddr(text)) == "" {
			t.Errorf("something may be sent to %s", text)
		}
	}
	for _, text := range strings.Fields(`169.253.255.255 169.255.0.0 fec0::1 127.0.0.1 ::1 10.0.0.1 100.100.100.201 192.0.2.1
		64:ff9b::c000:201 64:ff9b:1::c000:201 2002:c000:201:: 2001:db8::1 fd00::1 223.255.255.255 ::ffff:127.0.0.1`) {
		if what := forbidden(netip.MustParseAddr(text)); what != "" {
			t.Errorf("%s is %s", text, what)
		}
	}
	if forbidden(netip.Addr{}) != "" {
		t.Error("a name is forbidden")
	}
}

// TestHosts are read, each in one spelling; others are refused.
func TestHosts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Orders.Example.com.": "orders.example.com", "orders:8443": "orders:8443", "*.Example.com": "*.example.com",
		"*.example.com:443": "*.example.com:443", "192.0.2.1": "192.0.2.1", "192.0.2.1:80": "192.0.2.1:80", "::1": "::1", "[::1]": "::1",
		"checks=Orders:443": "checks=orders:443", "destinations=10.0.0.0/8": "destinations=10.0.0.0/8",
		"[::1]:80": "[::1]:80", "10.0.0.0/8": "10.0.0.0/8", "2001:DB8::/32": "2001:db8::/32", "0.0.0.0/0": "0.0.0.0/0", "::ffff:192.0.2.1": "192.0.2.1",
	} {
		hosts, err := ParseHosts([]string{text})
		if err != nil || hosts.Texts()[0] != want {
			t.Errorf("%q is %v, %v, want %s", text, hosts.Texts(), err, want)
			continue
		}
		if again, err := ParseHosts(hosts.Texts()); err != nil || again[0] != hosts[0] {
			t.Errorf("%q, stored and read, is %v, %v", text, again, err)
		}
	}
	for text, want := range map[string]string{
		"": "neither", "*": "neither", "*.": "neither", "a*.example.com": "neither", "*.*.example.com": "neither", "https://x": "neither",
		"x/y": "neither", "user@x": "neither", "bücher.example": "neither", "x:0": "neither", "x:99999": "neither", "x:y": "neither", "*.192.0.2.1": "neither",
		"1.2": "neither", "0x1": "neither", "[::1": "neither", "::1:x": "neither", "x y": "neither", "fe80::1%eth0": "neither", "::ffff:10.0.0.0/104": "neither",
		"secrets=x": "the uses are: checks=, alerts=, destinations=", "=x": "the uses are", "checks=": "neither", "checks=alerts=x": "neither",
		"10.0.0.1/8": "write 10.0.0.0/8", "169.254.169.254": "leave it out", "169.254.0.0/16": "leave it out", "fe80::/64": "leave it out", "fd00:ec2::254": "leave it out",
	} {
		if _, err := ParseHosts([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := ParseHosts(make([]string, maxHosts+1)); err == nil {
		t.Error("there is no limit")
	}
}
