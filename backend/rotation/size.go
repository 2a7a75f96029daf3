package rotation

import (
	"encoding/json"
	"fmt"
)

// Vault's storage takes no entry over 1 MiB, and a commit that it refused for that
// could never be made. So a state may grow to maxDescribed by what people write,
// its values counted stages times, for those that are to come, and to maxIntended by an
// intent, which leaves room for the record that the commit adds.
const (
	maxDescribed = 768 << 10
	maxIntended  = 896 << 10
	stages       = 3
)

// size is how many bytes the state takes in storage.
func (s *State) size() int {
	raw, err := json.Marshal(s)
	if err != nil {
		return 0 // which Save reports
	}
	return len(raw)
}

// need is how many bytes the state may come to take when its values are in all stages.
func (s *State) need() int {
	values := 0
	for _, secret := range s.Secrets {
		for _, v := range []*Value{secret.Current, secret.Previous, secret.Pending, secret.Next} {
			if v == nil {
				continue
			}
			if raw, err := json.Marshal(v.Material); err == nil {
				values += len(raw)
			}
		}
	}
	return s.size() + (stages-1)*values
}

// Room returns how many bytes the state may come to take in storage, and how many it
// may by what people write.
func (s *State) Room() (size, limit int) { return s.need(), maxDescribed }

// checkDescribed refuses a state that what people wrote has made too large.
func (s *State) checkDescribed(role string, before *State) error {
	return tooLarge(role, s.need(), before.need(), maxDescribed)
}

// checkSize refuses a state that has become too large for what comes next. A
// change that makes a state smaller than before is never refused.
func (s *State) checkSize(role string, before *State) error {
	return tooLarge(role, s.size(), before.size(), maxIntended)
}

func tooLarge(role string, size, before, limit int) error {
	if size <= limit || size <= before {
		return nil
	}
	return fmt.Errorf("%w: %s would take %d bytes of storage, and the limit is %d: make its texts, lists and values shorter, or spread its secrets over more roles",
		ErrInvalid, role, size, limit)
}
