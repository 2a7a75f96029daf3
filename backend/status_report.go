package backend

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// statusReport tells the status of a role as text, for people: a table shows nested data
// as nobody can read it. Data is what status answers beside it.
func statusReport(r *rotation.Role, s *rotation.Snapshot, data map[string]any) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	next := "no automatic rotation is planned"
	if at := data["next_vault_rotation"]; at != nil {
		next = fmt.Sprintf("the next rotation starts %v", at)
	}
	line("role %s: version %d; %s", r.Name, s.Version, next)
	for _, name := range s.Names() {
		line("secret %s", stagesLine(s.Secrets[name]))
	}
	destinations, _ := data["destinations"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(destinations)) {
		copied := destinations[name].(map[string]any)
		line("destination %s: %v since %v, version %v", name, copied["state"], cmp.Or(copied["since"], any("the beginning")), copied["version"])
	}
	if op, _ := data["in_flight"].(map[string]any); op != nil {
		line("under way: %v %v since %v", op["kind"], op["rotation_id"], op["started"])
	}
	if s.PostCommit != nil {
		line("after the commit of %s: %s", s.PostCommit.ID, describeTasks(s.PostCommit.Tasks))
	}
	if s.LastError != "" {
		line("last error: %s", s.LastError)
	}
	if overlap := fmt.Sprint(data["overlap"]); overlap != "" {
		line("overlap: %s", overlap)
	}
	line("to do: %s", cmp.Or(fmt.Sprint(data["advice"]), "nothing"))
	return b.String()
}

// stagesLine tells which values a secret has, in a line.
func stagesLine(s *rotation.Secret) string {
	text := fmt.Sprintf("%s (%s): ", s.Name, s.Type)
	if s.Current == nil {
		return text + "no value yet"
	}
	text += fmt.Sprintf("current is version %d", s.Current.Version)
	if s.Previous != nil {
		text += fmt.Sprintf(", previous is version %d until %v", s.Previous.Version, timestamp(s.Previous.RetireTime))
	}
	return text
}
