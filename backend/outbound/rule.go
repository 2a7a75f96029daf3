package outbound

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Rule says where requests may go, as the administrator of the mount has it. The
// zero value lets pass what carries neither values nor credentials, and nothing
// else.
type Rule struct {
	// Hosts are who may get values and credentials; nil as long as nobody has said.
	Hosts Hosts
	// Use is what the requests are for; empty is for no use that Hosts may be limited to.
	Use string
	// Proxy is what requests go through; nil for none. It resolves names by itself,
	// so then Hosts that are networks stand for addresses that are written as such,
	// and what a name resolves to is compared with what is never sent to as far as it
	// resolves here too. What is of this machine does not go through the proxy.
	Proxy *url.URL
	// Mount is the path of the engine, for the commands that people are told to run.
	Mount string
	// Resolver finds the addresses of names; nil means that of the machine.
	Resolver *net.Resolver
	// kept lets values and credentials pass as if everybody were listed.
	kept bool
}

// For returns the rule for an entry. One that was stored before there was such a
// rule, and so is not checked, is kept: it works until Hosts are set.
func (r Rule) For(checked bool) Rule {
	r.kept = !checked && r.Hosts == nil
	return r
}

// The words of Standing.
const (
	// Free carries neither values nor credentials, and may go anywhere.
	Free = "free"
	// Listed may go where it does.
	Listed = "listed"
	// Kept is not listed, was stored before there was a rule, and goes on.
	Kept = "kept"
	// Refused is not sent.
	Refused = "refused"
)

// Standing puts in a word what the rule says of an address, as far as that is known
// without asking DNS.
func (r Rule) Standing(address string, carries bool) string {
	err := r.Check(address, carries)
	switch {
	case err != nil:
		return Refused
	case !carries:
		return Free
	case r.kept:
		return Kept
	}
	return Listed
}

// Check says why nothing may be sent to an address, as far as that is known without
// asking DNS. Carries says that values or credentials go along.
func (r Rule) Check(address string, carries bool) error {
	t, err := parse(address)
	if err != nil {
		return err
	}
	return r.admit(t, carries)
}

// lookup bounds how long is waited for DNS only to compare what it says.
const lookup = 2 * time.Second

// Admit is Check for what is about to be stored: a name that only its addresses can
// admit is resolved.
func (r Rule) Admit(ctx context.Context, address string, carries bool) error {
	t, err := parse(address)
	if err == nil {
		err = r.admit(t, carries)
	}
	if err != nil || !carries || r.kept || r.Hosts.have(r.Use, t) {
		return err
	}
	for _, ip := range r.addresses(ctx, t) {
		if r.reach(t, ip, carries) == nil {
			return nil
		}
	}
	return r.unlisted(t)
}

// addresses are what a name resolves to here and now, none if it does not.
func (r Rule) addresses(ctx context.Context, t target) []netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, lookup)
	defer cancel()
	resolver := r.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	found, err := resolver.LookupNetIP(ctx, "ip", t.name)
	if err != nil {
		return nil
	}
	return found
}

// admit is the rule for what is known of a target before its name is resolved.
func (r Rule) admit(t target, carries bool) error {
	switch what := forbidden(t.ip); {
	case what != "":
		return refusal("%s is %s: nothing is ever sent there", t.name, what)
	case metadataNames[t.name]:
		return refusal("%s is %s: nothing is ever sent there", t.name, metadata)
	case !carries || r.kept:
		return nil
	case t.scheme != "https" && !t.local():
		return refusal("values or credentials would be sent in clear text: the address must begin with https://, unless it is on this machine")
	case r.Hosts.have(r.Use, t), !t.ip.IsValid() && r.Proxy == nil && r.Hosts.resolvable(r.Use, t.port):
		return nil
	}
	return r.unlisted(t)
}

// reach is the rule for the address that a target is about to be connected to.
func (r Rule) reach(t target, ip netip.Addr, carries bool) error {
	actual := t
	actual.ip = ip.Unmap().WithZone("")
	switch what := forbidden(ip); {
	case what != "":
		return refusal("%s resolves to %s, %s: nothing is ever sent there", t.name, ip, what)
	case t.local() && !actual.ip.IsLoopback():
		return refusal("%s resolves to %s, which is not on this machine", t.name, ip)
	case !carries || r.kept || r.Hosts.have(r.Use, t) || r.Hosts.have(r.Use, actual):
		return nil
	}
	return r.unlisted(t)
}

// unlisted is the refusal of a target that nobody has listed.
func (r Rule) unlisted(t target) error {
	return refusal("%s may get no values and no credentials, because outbound_hosts does not name it; to allow it, an administrator of the mount runs: vault write %sconfig outbound_hosts=%s",
		t, r.mount(), r.with(t))
}

func (r Rule) mount() string {
	if r.Mount == "" {
		return "smvm/"
	}
	return r.Mount
}

// maxShown is the longest list that a command repeats.
const maxShown = 1000

// plain is what a shell takes as it is.
var plain = regexp.MustCompile(`^[A-Za-z0-9_.,:/=-]+$`)

// with is the list that has a target too, for a shell: a write replaces the list.
// It holds nothing but names, numbers and the marks between them.
func (r Rule) with(t target) string {
	added := t.String()
	if r.Use != "" {
		added = r.Use + "=" + added
	}
	list := strings.Join(append(r.Hosts.Texts(), added), ",")
	switch {
	case len(list) > maxShown:
		return "'…," + added + "', with the present entries in place of the dots"
	case plain.MatchString(list):
		return list
	}
	return "'" + list + "'"
}
