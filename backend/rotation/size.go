package rotation

import (
	"encoding/json"
	"fmt"
)

// Vault's storage takes no entry over 1 MiB, and a commit that it refused for that
// could never be made. So a state may grow to maxDescribed by what people write,
// which leaves room for all values in every stage at once, and to maxIntended by
// an intent, which leaves room for the record that the commit adds.
const (
	maxDescribed = 256 << 10
	maxIntended  = 896 << 10
)

// size is how many bytes the state takes in storage.
func (s *State) size() int {
	raw, err := json.Marshal(s)
	if err != nil {
		return 0 // which Save reports
	}
	return len(raw)
}

// Room returns how many bytes the state takes in storage, and how many it may take
// by what people write.
func (s *State) Room() (size, limit int) { return s.size(), maxDescribed }

// checkSize refuses a state that has become too large for what comes next. A
// change that makes a state smaller than before is never refused.
func (s *State) checkSize(role string, before *State, limit int) error {
	size := s.size()
	if size <= limit || size <= before.size() {
		return nil
	}
	return fmt.Errorf("%w: %s would take %d bytes of storage, and the limit is %d: make its texts, lists and values shorter, or spread its secrets over more roles",
		ErrInvalid, role, size, limit)
}
