package outbound

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// target is who an address names, in the one spelling that is compared.
type target struct {
	scheme string
	// name is in lower case, without a final dot; of an IP address, its text.
	name string
	// ip is the zero Addr if it is a name.
	ip   netip.Addr
	port string
}

// parse reads an address, and refuses what others might read otherwise.
func parse(address string) (target, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return target{}, errors.New("must be like https://orders.example.com/path")
	case u.User != nil:
		return target{}, errors.New("has a user name, and addresses are logged; give it as a header")
	case strings.Contains(address, "{{"):
		return target{}, errors.New("has a placeholder, and addresses are logged; values go into headers and body only")
	}
	return targetOf(u)
}

// targetOf reads the scheme and the host of an address.
func targetOf(u *url.URL) (target, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	t, err := newTarget(u.Hostname(), port)
	t.scheme = u.Scheme
	return t, err
}

var (
	nameForm = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)
	// numberForm is the last part of what C libraries read as an IPv4 address.
	numberForm = regexp.MustCompile(`(^|\.)(0x[0-9a-f]*|[0-9]+)$`)
)

// maxName is the length of the longest name in DNS.
const maxName = 253

// newTarget reads a host and a port.
func newTarget(host, port string) (target, error) {
	t := target{name: strings.ToLower(strings.TrimSuffix(host, ".")), port: port}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return t, errors.New("has a port that is not from 1 to 65535")
	}
	if ip, err := netip.ParseAddr(t.name); err == nil {
		t.ip = ip.Unmap()
		t.name = t.ip.String()
		if ip.Zone() != "" {
			return t, errors.New("has an interface zone, as link-local addresses have; nothing is ever sent to those")
		}
		return t, nil
	}
	switch {
	case !nameForm.MatchString(t.name) || len(t.name) > maxName:
		return t, errors.New("has a host that is neither a name nor an IP address: use letters, digits, - and dots, other letters in Punycode (xn--…)")
	case numberForm.MatchString(t.name):
		return t, errors.New("has a host that some programs read as an IP address: write it as four decimal numbers, like 192.0.2.1")
	}
	return t, nil
}

// local reports whether it is of the machine that Vault runs on.
func (t target) local() bool { return t.name == "localhost" || t.ip.IsLoopback() }

// String is how outbound_hosts name it, with a port if that is not the usual one.
func (t target) String() string {
	if t.scheme == "https" && t.port == "443" || t.scheme == "http" && t.port == "80" {
		return t.name
	}
	return net.JoinHostPort(t.name, t.port)
}
