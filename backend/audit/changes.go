package audit

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Changes lists what is written otherwise about a role: its policy, checks,
// destinations, and how its secrets are made; values only where they can't be secret. Secrets that are new or
// gone have records of their own.
func Changes(before, after *rotation.State) []rotation.Difference {
	found := rotation.Differences(policyOf(before), policyOf(after))
	for _, name := range slices.Sorted(maps.Keys(union(before.Checks, after.Checks))) {
		found = append(found, rewritten("checks/"+name, before.Checks[name], after.Checks[name])...)
	}
	for _, name := range after.Names() {
		if old := before.Secrets[name]; old != nil {
			found = append(found, rewritten("secrets/"+name, old.Config, after.Secrets[name].Config)...)
		}
	}
	return found
}

// policyOf is what a role's own fields say, without the defaults.
func policyOf(s *rotation.State) map[string]any {
	p := s.Policy
	return map[string]any{
		"exists": !s.Deleted, "destinations": slices.Clone(s.Destinations), "auto_rotate": p.AutoRotate && !s.Deleted,
		"rotation_period": rotation.Seconds(p.Period), "rotation_schedule": p.Schedule, "rotation_window": rotation.Seconds(p.Window),
		"overlap": rotation.Seconds(p.Overlap), "overlap_limit": rotation.Seconds(p.OverlapLimit), "refresh_interval": rotation.Seconds(p.RefreshInterval),
		"max_retries": p.MaxRetries, "retry_interval": rotation.Seconds(p.RetryInterval),
	}
}

// rewritten lists the fields of a stored configuration that differ.
func rewritten(name string, before, after json.RawMessage) []rotation.Difference {
	if bytes.Equal(before, after) {
		return nil
	}
	var old, changed map[string]json.RawMessage
	_, _ = json.Unmarshal(before, &old), json.Unmarshal(after, &changed) // nil if there was or is none
	var found []rotation.Difference
	for _, field := range slices.Sorted(maps.Keys(union(old, changed))) {
		if !bytes.Equal(old[field], changed[field]) {
			found = append(found, rotation.Difference{Field: name + "." + field, From: shownValue(field, old[field]), To: shownValue(field, changed[field])})
		}
	}
	return found
}

// PlainFields are the texts that hold no secret and nothing of an application: not
// headers and bodies, and not SQL.
var PlainFields = []string{
	"phase", "method", "on_failure", "expected_status",
	"connection", "rotation_strategy", "usernames", "password_policy", "on_overlap_end",
	"algorithm", "issuer", "audience", "allowed_claims", "denied_claims", "claims_template", "prefix",
}

// Durations are the fields that are stored in nanoseconds.
var Durations = []string{"timeout", "delay", "interval", "watch_period"}

// shownValue is what is recorded of a field: of an address its host, of other texts
// nothing unless they are plain.
func shownValue(field string, raw json.RawMessage) any {
	var value any
	if len(raw) == 0 || json.Unmarshal(raw, &value) != nil {
		return nil
	}
	switch v := value.(type) {
	case float64:
		if slices.Contains(Durations, field) {
			return rotation.Seconds(time.Duration(v))
		}
		return v
	case bool:
		return v
	case string:
		if field == "url" {
			return outbound.Host(v)
		}
	}
	if slices.Contains(PlainFields, field) {
		return value
	}
	return nil
}

// union has the keys of both.
func union[V any](a, b map[string]V) map[string]V {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return all
}
