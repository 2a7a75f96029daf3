package outbound

import (
	"maps"
	"slices"
)

// Way is what an entry says of how it is sent.
type Way struct {
	// To are the settings that say where, and whom to believe there.
	To map[string]string
	// Along are those that are sent and may be secret, as they are stored.
	Along map[string]string
}

// Needed returns the first setting that has to be given again before what is stored in it
// goes the new way, and the setting that changes the way; empty if there is none. Whoever
// may change an address is not to get by it what it did not know.
func (w Way) Needed(after Way, given func(setting string) bool) (needed, because string) {
	for _, to := range slices.Sorted(maps.Keys(w.To)) {
		if w.To[to] == after.To[to] {
			continue
		}
		for _, along := range slices.Sorted(maps.Keys(w.Along)) {
			if w.Along[along] != "" && !given(along) {
				return along, to
			}
		}
	}
	return "", ""
}
