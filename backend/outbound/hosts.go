package outbound

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Hosts are who may get values and credentials.
type Hosts []host

// The uses that requests are for. What gets copies of values may show them to others
// who have an account there, so a host need not be for all uses.
const (
	ForChecks       = "checks"
	ForAlerts       = "alerts"
	ForDestinations = "destinations"
)

// uses lists them.
var uses = []string{ForChecks, ForAlerts, ForDestinations}

// host is one of them: a name, all names below one, or the addresses of a network.
type host struct {
	text string
	// use is what it is for; empty for all.
	use string
	// name begins with a dot if it stands for all below it.
	name    string
	network netip.Prefix
	port    string // empty for any
}

// maxHosts bounds what each request is compared with.
const maxHosts = 256

// ParseHosts reads names, patterns like *.example.com, IP addresses, each with or
// without :port, and networks like 10.0.0.0/8; before each may stand the use that it
// is for, like checks=orders.example.com.
func ParseHosts(texts []string) (Hosts, error) {
	if len(texts) > maxHosts {
		return nil, fmt.Errorf("are %d; the limit is %d: use patterns or networks", len(texts), maxHosts)
	}
	hosts := make(Hosts, 0, len(texts))
	for _, text := range texts {
		use, named, limited := strings.Cut(text, "=")
		if !limited {
			use, named = "", text
		} else if !slices.Contains(uses, use) {
			return nil, fmt.Errorf("%q names an unknown use; the uses are: %s", text, strings.Join(uses, "=, ")+"=")
		}
		h, err := parseHost(named)
		if err != nil {
			return nil, fmt.Errorf("%q %w", text, err)
		}
		if h.use = use; limited {
			h.text = use + "=" + h.text
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

var errHost = errors.New("is neither a host nor a network: give names like orders.example.com, patterns like *.example.com, IP addresses, each with or without :port, or networks like 10.0.0.0/8")

// parseHost reads one, and keeps it in the one spelling that is compared.
func parseHost(text string) (host, error) {
	if strings.Contains(text, "/") {
		return parseNetwork(text)
	}
	name, port := splitPort(text)
	name, below := strings.CutPrefix(name, "*.")
	t, err := newTarget(name, cmp.Or(port, "443"))
	switch {
	case err != nil || below && t.ip.IsValid():
		return host{}, errHost
	case t.ip.IsValid() && forbidden(t.ip) != "":
		return host{}, fmt.Errorf("is %s, and nothing is ever sent there: leave it out", forbidden(t.ip))
	case t.ip.IsValid():
		return host{text: spelled(t.name, port), network: netip.PrefixFrom(t.ip, t.ip.BitLen()), port: port}, nil
	case below:
		return host{text: spelled("*."+t.name, port), name: "." + t.name, port: port}, nil
	}
	return host{text: spelled(t.name, port), name: t.name, port: port}, nil
}

func parseNetwork(text string) (host, error) {
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil || network.Addr().Is4In6():
		return host{}, errHost
	case network != network.Masked():
		return host{}, fmt.Errorf("has address bits beyond its length: write %s", network.Masked())
	case neverSent(network):
		return host{}, errors.New("is a network that nothing is ever sent to: leave it out")
	}
	return host{text: network.String(), network: network}, nil
}

// withPort is a name or IPv4 address, or an IPv6 address in brackets, and a port.
var withPort = regexp.MustCompile(`^(?:\[(.*)\]|([^:\[\]]*))(?::([0-9]+))?$`)

func splitPort(text string) (name, port string) {
	parts := withPort.FindStringSubmatch(text)
	if parts == nil {
		return text, "" // an IPv6 address without brackets, or nothing at all
	}
	return cmp.Or(parts[1], parts[2]), parts[3]
}

func spelled(name, port string) string {
	switch {
	case port == "":
		return name
	case strings.Contains(name, ":"):
		return "[" + name + "]:" + port
	}
	return name + ":" + port
}

// Texts are the hosts in the spelling that is compared.
func (h Hosts) Texts() []string {
	texts := make([]string, 0, len(h))
	for _, one := range h {
		texts = append(texts, one.text)
	}
	return texts
}

// have reports whether a target is among those for a use by what its address says.
func (h Hosts) have(use string, t target) bool {
	for _, one := range h {
		switch {
		case one.use != "" && one.use != use:
		case one.port != "" && one.port != t.port:
		case t.ip.IsValid():
			if one.network.IsValid() && one.network.Contains(t.ip) {
				return true
			}
		case one.name != "" && (one.name == t.name || one.name[0] == '.' && strings.HasSuffix(t.name, one.name)):
			return true
		}
	}
	return false
}

// resolvable reports whether the address that a name resolves to may be among them.
func (h Hosts) resolvable(use, port string) bool {
	for _, one := range h {
		if one.network.IsValid() && (one.use == "" || one.use == use) && (one.port == "" || one.port == port) {
			return true
		}
	}
	return false
}
