package rotation

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// A role may not become so large that storage would refuse its commit, and a role
// that is too large may become smaller.
func TestARoleMayNotOutgrowStorage(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	describe := func(bytes int) error {
		config, err := json.Marshal(strings.Repeat("x", bytes))
		must(t, err)
		return w.role.change(t.Context(), nil, func(s *State) error {
			s.Secrets["db"].Config = config
			return nil
		})
	}
	must(t, describe(maxDescribed*3/4))
	if err := describe(maxDescribed); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "bytes of storage") {
		t.Fatalf("a role of more than %d bytes: %v", maxDescribed, err)
	}
	if _, err := w.do(rotate()); err != nil {
		t.Fatalf("rotate what was described before: %v", err)
	}
	w.reboot(t, maxIntended)
	if _, err := w.do(rotate()); !errors.Is(err, ErrInvalid) {
		t.Fatalf("an intent that leaves no room for the commit: %v", err)
	}
	must(t, describe(maxIntended-maxDescribed))
	must(t, describe(10))
	if _, err := w.do(rotate()); err != nil {
		t.Fatal(err)
	}
}

// reboot starts with a role that another version has let become so large.
func (w *world) reboot(t *testing.T, bytes int) {
	t.Helper()
	s, err := Decode(w.state)
	must(t, err)
	s.Secrets["db"].Config, err = json.Marshal(strings.Repeat("x", bytes))
	must(t, err)
	w.state, err = json.Marshal(s)
	must(t, err)
	w.boot(t)
}
