package backend

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// outboundFields are the settings that say where values and credentials may go.
func outboundFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"outbound_hosts": field(framework.TypeCommaStringSlice, "Who may get values and credentials from checks, alerts and destinations: names, patterns like *.example.com, IP addresses, each with or without :port, and networks like 10.0.0.0/8, each for all three or for one, like checks=orders.example.com; nobody by default. Others get only what carries neither, and link-local and metadata addresses nothing at all. A write replaces the list."),
		"outbound_proxy": field(framework.TypeString, "Address of an HTTP proxy that checks, alerts and destinations go through, like http://proxy.example.com:3128; none by default. What is of the machine that Vault runs on does not. With a proxy, names are compared with names only."),
	}
}

// updateOutbound takes over the fields that the request names. A list that was ever
// written is never nil again, not even when it is empty.
func (s *settings) updateOutbound(d *framework.FieldData) error {
	if v, ok := d.GetOk("outbound_hosts"); ok {
		hosts, err := outbound.ParseHosts(v.([]string))
		if err != nil {
			return rotation.Invalid("outbound_hosts", "%v", err)
		}
		s.OutboundHosts = hosts.Texts()
	}
	takeString(d, "outbound_proxy", &s.OutboundProxy)
	if _, err := outbound.ParseProxy(s.OutboundProxy); err != nil {
		return rotation.Invalid("outbound_proxy", "%v", err)
	}
	return nil
}

// outboundRule is what the administrator of the mount has said by now about where
// requests of that use may go. It is asked for again for each, and never guessed: as long as the
// configuration can't be read, nothing is sent.
func (b *backend) outboundRule(ctx context.Context, use string) (outbound.Rule, error) {
	rule := outbound.Rule{Use: use, Mount: b.mountPath()}
	s, err := b.loadSettings(ctx)
	if err == nil && s.OutboundHosts != nil {
		rule.Hosts, err = outbound.ParseHosts(s.OutboundHosts)
	}
	if err == nil {
		rule.Proxy, err = outbound.ParseProxy(s.OutboundProxy)
	}
	if err != nil {
		return outbound.Rule{}, fmt.Errorf("read where requests may go: %w", err)
	}
	return rule, nil
}

// standingField declares what shown answers.
func standingField() *framework.FieldSchema {
	return field(framework.TypeString, "Whether it is sent: free, it carries neither values nor credentials; listed in outbound_hosts; kept, it is not, and goes on because an earlier version stored it, until outbound_hosts are written; or refused.")
}

// shown answers an entry, and how it stands by the rule.
func shown(data map[string]any, standing string) *logical.Response {
	data["outbound"] = standing
	resp := &logical.Response{Data: data}
	switch standing {
	case outbound.Kept:
		resp.AddWarning("outbound_hosts of config does not name where this is sent. It goes on because an earlier version stored it, until outbound_hosts are written, or this is")
	case outbound.Refused:
		resp.AddWarning("outbound_hosts of config does not name where this would be sent, so nothing is sent")
	}
	return resp
}

// way is what an entry says of how it is sent.
type way struct {
	// to are the settings that say where, and whom to believe there.
	to map[string]string
	// along are those that are sent and may be secret, as they are stored.
	along map[string]string
}

// stays refuses a request that has stored secrets go another way without giving them
// again: whoever may change an address is not to get by it what it did not know.
func (before way) stays(d *framework.FieldData, after way) error {
	for _, setting := range slices.Sorted(maps.Keys(before.to)) {
		if before.to[setting] == after.to[setting] {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(before.along)) {
			if _, given := d.GetOk(name); !given && before.along[name] != "" {
				return rotation.Invalid(name, "is needed again, because %s changes where it is sent", setting)
			}
		}
	}
	return nil
}
