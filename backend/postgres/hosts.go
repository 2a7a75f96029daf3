package postgres

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Address is one host of a connection.
type Address struct {
	// Host is a name or an address, IPv6 without brackets.
	Host string
	Port int
}

// String returns host:port, with brackets around an IPv6 address.
func (a Address) String() string { return hostPort(a.Host, a.Port) }

// maxHosts is how many hosts one connection may have: the time to connect is divided
// among them.
const maxHosts = 8

// The values of target_session_attrs. An engine that changes passwords needs the
// primary; how applications are told so is the operator's choice.
const (
	targetReadWrite = "read-write"
	targetPrimary   = "primary"
)

// checkTarget refuses sessions that the engine could not use.
func checkTarget(field, target string) error {
	switch target {
	case "", targetReadWrite, targetPrimary:
		return nil
	}
	return rotation.Invalid(field, "target_session_attrs must be read-write or primary, because the engine changes passwords on the primary. For applications that only read, set it in application_parameters")
}

// parseHosts reads one host, or several separated by commas, as libpq does. Of several,
// each may have a port of its own; the others have the given one. Field is what they
// were given in. No part of the text is quoted: a password that was written in the
// wrong place ends up here.
func parseHosts(field, text string, port int) ([]Address, error) {
	if !strings.Contains(text, ",") {
		host, err := checkHost(field, text)
		return []Address{{host, port}}, err
	}
	var all []Address
	for one := range strings.SplitSeq(text, ",") {
		a, err := parseAddress(field, one, port)
		if err != nil {
			return nil, err
		}
		if slices.Contains(all, a) {
			return nil, rotation.Invalid(field, "names a host twice: name each host once")
		}
		all = append(all, a)
	}
	if len(all) > maxHosts {
		return nil, rotation.Invalid(field, "names %d hosts; the limit is %d", len(all), maxHosts)
	}
	return all, nil
}

// parseAddress reads a host that may have a port of its own.
func parseAddress(field, text string, port int) (Address, error) {
	host, own := text, ""
	if at := strings.LastIndex(text, ":"); at >= 0 && !isAddress(text) {
		host, own = text[:at], text[at+1:]
		var err error
		if port, err = strconv.Atoi(own); err != nil || port < 1 || port > 65535 {
			return Address{}, rotation.Invalid(field, "has a port that is not within 1 and 65535")
		}
	}
	host, err := checkHost(field, host)
	return Address{host, port}, err
}

// isAddress reports whether the colons of a text are those of an IPv6 address.
func isAddress(text string) bool {
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return err == nil
}

// joinHosts are the hosts and the ports as libpq takes them: the port is one where all
// hosts have the same.
func joinHosts(all []Address) (hosts, ports string) {
	var names, numbers []string
	for _, a := range all {
		names, numbers = append(names, a.Host), append(numbers, strconv.Itoa(a.Port))
	}
	if len(slices.Compact(slices.Clone(numbers))) == 1 {
		numbers = numbers[:1]
	}
	return strings.Join(names, ","), strings.Join(numbers, ",")
}

// String returns the addresses as host:port, separated by commas.
func (e Endpoint) String() string {
	texts := make([]string, len(e.Addresses))
	for i, a := range e.Addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}

// Meets reports whether both lead to the same server, as far as addresses tell.
func (e Endpoint) Meets(other Endpoint) bool {
	return slices.ContainsFunc(e.Addresses, func(a Address) bool { return slices.Contains(other.Addresses, a) })
}
