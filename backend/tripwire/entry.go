package tripwire

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// entry is what is stored of the retired values of a role. It is written at every
// retirement, so it has only the latest values itself; those before them are in pages,
// which are entries with nothing but Values.
type entry struct {
	// Uses is the number of the latest use that was noted, also of a value that is not kept
	// any more.
	Uses int `json:"uses,omitempty"`
	// Values begin with the one that was retired first.
	Values []value `json:"values"`
	// Pages have the values that were retired before, the oldest page first.
	Pages []page `json:"pages,omitempty"`
	// Used are copies of values in pages, with their uses: pages are never changed.
	Used []value `json:"used,omitempty"`

	damaged bool // what is stored could not be decoded
}

// clone returns an entry that can be changed.
func (e *entry) clone() *entry {
	next := *e
	next.Values, next.Pages, next.Used = slices.Clone(e.Values), slices.Clone(e.Pages), slices.Clone(e.Used)
	return &next
}

// count is how many values there are.
func (e *entry) count() int {
	n := len(e.Values)
	for _, p := range e.Pages {
		n += p.Values
	}
	return n
}

// lastUse is the number of the latest use of a value that is kept, zero if there is none.
func (e *entry) lastUse() (last int) {
	for _, v := range slices.Concat(e.Used, e.Values) {
		if v.Use != nil {
			last = max(last, v.Use.Number)
		}
	}
	return last
}

// page is an entry of storage with pageSize values, which is written once.
type page struct {
	Number int `json:"number"`
	Values int `json:"values"`
	Bytes  int `json:"bytes"`
	// Newest is when the last of its values was retired.
	Newest time.Time `json:"newest"`
}

// page returns what an entry says of the page with that number, of which e is the content.
func (e *entry) page(number int) page {
	return page{Number: number, Values: len(e.Values), Bytes: length(e), Newest: e.Values[len(e.Values)-1].Retired}
}

// pageSize is how many values go into a page, as soon as an entry has twice as many.
const pageSize = 50

// value is what is kept of a retired value.
type value struct {
	Secret  string    `json:"secret"`
	Type    string    `json:"type"`
	Version int       `json:"version"`
	Retired time.Time `json:"retired"`
	// Digests are those of secret.Values.
	Digests []secret.Digest `json:"sha256"`
	// KeyID is the id by which tokens name the key; empty if it was none.
	KeyID string `json:"kid,omitempty"`
	// Use is the latest use that was noted.
	Use *Use `json:"use,omitempty"`
}

// Use is that somebody had a retired value verified.
type Use struct {
	// Number is higher for each use of a role that was noted.
	Number int       `json:"number"`
	At     time.Time `json:"at"`
	// Actor and Address are of who asked to verify the value, not of who presented it
	// there.
	Actor   rotation.Actor `json:"actor,omitzero"`
	Address string         `json:"address,omitempty"`
}

// mark is by what a value that is presented is recognized: its digest, or the id of a key.
// Keys that were imported can have the same id.
type mark struct {
	secret, typeName string
	digest           secret.Digest
	keyID            string
}

// identity is the mark that no other value of the role has.
func (v value) identity() mark {
	return mark{secret: v.Secret, typeName: v.Type, digest: v.Digests[0]}
}

// mark is by what v is recognized: a key that signs tokens is never presented itself.
func (v value) mark() mark {
	if v.unproven() {
		return mark{secret: v.Secret, typeName: v.Type, keyID: v.KeyID}
	}
	return v.identity()
}

// unproven reports whether the value is a key of which only tokens are presented: that one
// names the key does not prove that the key signed it.
func (v value) unproven() bool { return v.KeyID != "" }

func (v value) expired(now time.Time, retention time.Duration) bool {
	return !now.Before(v.Retired.Add(retention))
}

// add adds a value, as the one that was retired last. One that is there already was held
// since, or was about to be given up before, which was not stored.
func (e *entry) add(v value) {
	for _, all := range []*[]value{&e.Used, &e.Values} {
		*all = slices.DeleteFunc(*all, func(known value) bool {
			same := known.identity() == v.identity()
			if same {
				v.Use = known.Use
			}
			return same
		})
	}
	e.Values = append(e.Values, v)
}

// spill takes the longest retired values out, as long as there are too many, and returns
// the pages to write, by their numbers.
func (e *entry) spill() map[int]entry {
	pages := map[int]entry{}
	for len(e.Values) > 2*pageSize {
		moved := slices.Clone(e.Values[:pageSize])
		e.Values = slices.Delete(e.Values, 0, pageSize)
		for i, v := range moved {
			if v.Use != nil {
				e.Used = append(e.Used, v)
				moved[i].Use = nil
			}
		}
		number := 1
		if len(e.Pages) > 0 {
			number = e.Pages[len(e.Pages)-1].Number + 1
		}
		content := entry{Values: moved}
		pages[number] = content
		e.Pages = append(e.Pages, content.page(number))
	}
	return pages
}

// expire drops what was retired too long ago, or is too much.
func (e *entry) expire(now time.Time, retention time.Duration) {
	gone := func(v value) bool { return v.expired(now, retention) }
	e.Values, e.Used = slices.DeleteFunc(e.Values, gone), slices.DeleteFunc(e.Used, gone)
	kept := len(e.Values)
	for first, p := range slices.Backward(e.Pages) {
		if kept+p.Values > MaxValues || !now.Before(p.Newest.Add(retention)) {
			e.Pages = slices.Delete(e.Pages, 0, first+1)
			break
		}
		kept += p.Values
	}
	e.bound()
}

const (
	// maxBytes bounds an entry with its pages. The smallest limit of a storage backend of
	// Vault is 512 KiB, and without room for its entry a role could give up no value any
	// more.
	maxBytes = 256 << 10
	// fullUses is how many uses, the latest, keep who asked as long as there are values
	// to drop, and manyUses how many of values in pages are kept where not all can be:
	// events still have to tell of them.
	fullUses = 10
	manyUses = 200
)

// bound drops what is too long for storage: first who had values verified, and from where,
// the longest ago first; then uses, but for many; then values, the longest retired first.
func (e *entry) bound() {
	excess := length(e) - maxBytes
	for _, p := range e.Pages {
		excess += p.Bytes
	}
	if excess <= 0 {
		return
	}
	var used []*value
	for _, all := range [][]value{e.Used, e.Values} {
		for i := range all {
			if all[i].Use != nil {
				used = append(used, &all[i])
			}
		}
	}
	slices.SortFunc(used, func(x, y *value) int { return x.Use.Number - y.Use.Number })
	for _, v := range used[:max(0, len(used)-fullUses)] {
		short := &Use{Number: v.Use.Number, At: v.Use.At}
		if saved := length(v.Use) - length(short); excess > 0 && saved > 0 {
			v.Use, excess = short, excess-saved
		}
	}
	slices.SortFunc(e.Used, func(x, y value) int { return x.Use.Number - y.Use.Number })
	for len(e.Used) > manyUses && excess > 0 {
		excess -= length(e.Used[0]) + len(",")
		e.Used = e.Used[1:]
	}
	pages := 0
	for ; pages < len(e.Pages) && excess > 0; pages++ {
		excess -= e.Pages[pages].Bytes
	}
	e.Pages = slices.Delete(e.Pages, 0, pages)
	for _, all := range []*[]value{&e.Used, &e.Values} {
		first := 0
		for ; first < len(*all) && excess > 0; first++ {
			excess -= length((*all)[first]) + len(",")
		}
		*all = slices.Delete(*all, 0, first)
	}
}

// length is how many bytes v has in storage.
func length(v any) int {
	raw, _ := json.Marshal(v) // what can't be encoded, the write refuses
	return len(raw)
}
