package outbound

import "net/netip"

// never are the networks that nothing is sent to, whatever the configuration says:
// there, machines get credentials of their own, or nobody in particular listens.
var never = []struct {
	network netip.Prefix
	what    string
}{
	{netip.MustParsePrefix("169.254.0.0/16"), linkLocal},
	{netip.MustParsePrefix("fe80::/10"), linkLocal},
	{netip.MustParsePrefix("fd00:ec2::/32"), metadata},          // AWS
	{netip.MustParsePrefix("fd20:ce::254/128"), metadata},       // Google Cloud
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), metadata}, // Oracle Cloud
	{netip.MustParsePrefix("192.0.0.192/32"), metadata},         // Oracle Cloud
	{netip.MustParsePrefix("100.100.100.200/32"), metadata},     // Alibaba Cloud
	{netip.MustParsePrefix("168.63.129.16/32"), metadata},       // Azure
	{netip.MustParsePrefix("0.0.0.0/8"), "not the address of a host"},
	{netip.MustParsePrefix("::/128"), "not the address of a host"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved or broadcast address"},
}

const (
	linkLocal = "a link-local address, such as clouds use for instance metadata"
	metadata  = "an address for instance metadata"
)

// metadataNames resolve only where the metadata are, which may be at the proxy.
var metadataNames = map[string]bool{"metadata.google.internal": true, "metadata.goog": true, "instance-data.ec2.internal": true}

// carriers are the IPv6 networks whose addresses stand for IPv4 ones, and at which
// bytes those may be found.
var carriers = []struct {
	network netip.Prefix
	at      [][4]int
}{
	{netip.MustParsePrefix("::/96"), [][4]int{{12, 13, 14, 15}}},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), [][4]int{{12, 13, 14, 15}}},
	{netip.MustParsePrefix("64:ff9b::/96"), [][4]int{{12, 13, 14, 15}}},
	// Local NAT64 takes a prefix of any length of RFC 6052 within this one.
	{netip.MustParsePrefix("64:ff9b:1::/48"), [][4]int{{6, 7, 9, 10}, {7, 9, 10, 11}, {9, 10, 11, 12}, {12, 13, 14, 15}}},
	{netip.MustParsePrefix("2002::/16"), [][4]int{{2, 3, 4, 5}}},
}

// forbidden says what an address is that nothing is ever sent to; empty for others.
func forbidden(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	for _, n := range never {
		if n.network.Contains(ip) {
			return n.what
		}
	}
	for _, c := range carriers {
		if !c.network.Contains(ip) {
			continue
		}
		bytes := ip.As16()
		for _, at := range c.at {
			carried := netip.AddrFrom4([4]byte{bytes[at[0]], bytes[at[1]], bytes[at[2]], bytes[at[3]]})
			if what := forbidden(carried); what == linkLocal || what == metadata {
				return what
			}
		}
	}
	return ""
}

// neverSent reports whether nothing is ever sent to any address of a network.
func neverSent(network netip.Prefix) bool {
	for _, n := range never {
		if n.network.Bits() <= network.Bits() && n.network.Contains(network.Addr()) {
			return true
		}
	}
	return false
}
