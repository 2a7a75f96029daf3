package destination

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// held is one kind of target as the suite needs it: the engine's own code in front,
// and what really is there behind it.
type held interface {
	// target reaches it at that address, by a login that may do what it has to.
	target(t *testing.T, address string) Target
	// address is that of the real one.
	address() string
	// value is what is there under a name, and versions how many there have been.
	value(t *testing.T, name string) (value string, versions int)
	// put is somebody else who writes to a name, as the first or over what is there.
	put(t *testing.T, name, value string)
	// secrets are those that errors must not show.
	secrets() []string
	// full answers as one that has no room.
	full() answer
	// denied answers as one whose policy says no.
	denied() answer
	// reads says that it can be asked what it holds.
	reads() bool
}

// one copy of role orders, at that version.
func copyAt(version int) Copy {
	stamp := Stamp{version, time.Date(2026, time.March, 1, 12, version, 0, 0, time.UTC)}
	return copyWith(stamp, fmt.Sprintf("password-of-version-%d", version))
}

func copyWith(stamp Stamp, password string) Copy {
	c := described()
	made, err := c.Copy("mount/orders", "orders", stamp, map[string]string{"db_password": password, "jwt_secret": "jwt-" + password})
	if err != nil {
		panic(err)
	}
	return made
}

// described is what the copies are made by.
func described() *Config {
	c := New(TypeWebhook)
	c.Salt = []byte("the same for all copies of a test")
	c.Values = []string{"{{role}}/database-password={{db_password}}", "{{role}}/jwt-secret={{jwt_secret}}"}
	return c
}

const password = "orders/database-password"

// suite is one target in front of what it stands for, with faults in between.
type suite struct {
	*testing.T
	held
	front *front
	to    Target
}

func (s *suite) publish(c Copy) error { return s.to.Publish(s.Context(), here, c) }

func (s *suite) must(c Copy) {
	s.Helper()
	if err := s.publish(c); err != nil {
		s.Fatalf("publish version %d: %v", c.Stamp.Version, err)
	}
}

// holds fails the test unless that version is there, after so many.
func (s *suite) holds(version, versions int) {
	s.Helper()
	value, have := s.value(s.T, password)
	if want := copyAt(version).Items[0].Value; value != want || have != versions {
		s.Errorf("there is %q after %d versions, want %q after %d", value, have, want, versions)
	}
}

// fails publishes what has to fail, in a way that is hopeless or not, and with words
// that say so.
func (s *suite) fails(c Copy, hopeless bool, words ...string) {
	s.Helper()
	err := s.publish(c)
	if err == nil || errors.Is(err, ErrRefused) != hopeless {
		s.Fatalf("want an error, hopeless: %t; got %v", hopeless, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			s.Errorf("%q does not mention %q", err, word)
		}
	}
	for _, secret := range append(s.secrets(), c.Items[0].Value, c.Items[1].Value) {
		if strings.Contains(err.Error(), secret) {
			s.Errorf("the error shows a secret: %v", err)
		}
	}
}

// conformance is what every type of target has to be like.
var conformance = map[string]func(*suite){
	"publishes, and again is as good as once": func(s *suite) {
		s.must(copyAt(1))
		s.must(copyAt(1))
		s.holds(1, 1)
		s.must(copyAt(2))
		s.holds(2, 2)
	},
	"a value that stays gets no other version": func(s *suite) {
		if !s.reads() {
			return
		}
		s.must(copyAt(1))
		s.must(copyWith(copyAt(2).Stamp, copyAt(1).Items[0].Value))
		s.holds(1, 1)
	},
	"an older copy never replaces a newer one": func(s *suite) {
		s.must(copyAt(3))
		s.fails(copyAt(2), true)
		s.holds(3, 1)
	},
	"after a restore, the next rotation replaces a higher version": func(s *suite) {
		s.must(copyAt(3))
		later := Stamp{2, copyAt(3).Stamp.Time.Add(time.Hour)}
		c := copyWith(later, "password-after-the-restore")
		s.must(c)
		if value, _ := s.value(s.T, password); value != c.Items[0].Value {
			s.Errorf("there is %q", value)
		}
	},
	"what is not ours is not overwritten": func(s *suite) {
		s.put(s.T, password, "somebody-elses")
		s.fails(copyAt(1), true)
		if value, _ := s.value(s.T, password); value != "somebody-elses" {
			s.Errorf("there is %q", value)
		}
		if !s.reads() {
			return
		}
		if err := s.to.Preflight(s.Context(), here, names()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "adopt=true") {
			s.Errorf("the preflight says %v", err)
		}
		adopting := copyAt(1)
		adopting.Adopt = true
		s.must(adopting)
		s.must(copyAt(2))
	},
	"two at the same time": func(s *suite) {
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- s.publish(copyAt(1)) }()
		}
		for range 2 {
			if err := <-done; err != nil && !errors.Is(err, errContended) {
				s.Errorf("one of two: %v", err)
			}
		}
		s.must(copyAt(1))
		s.holds(1, 1)
	},
	"down, and back": func(s *suite) {
		s.must(copyAt(1))
		s.front.set(down)
		s.fails(copyAt(2), false, "no answer")
		s.front.set(nil)
		s.holds(1, 1)
		s.must(copyAt(2))
		s.holds(2, 2)
	},
	"slow": func(s *suite) {
		s.front.set(slow)
		s.fails(copyAt(1), false, "no answer in time")
		s.front.set(nil)
		s.must(copyAt(1))
		s.holds(1, 1)
	},
	"full": func(s *suite) {
		s.front.set(answering(s.full()))
		s.fails(copyAt(1), false, "room")
		s.front.set(nil)
		s.must(copyAt(1))
	},
	"denied": func(s *suite) {
		s.front.set(answering(s.denied()))
		s.fails(copyAt(1), true, "permission denied", "bootstrap/operate/destinations/")
		s.front.set(nil)
		s.must(copyAt(1))
	},
	"answers get lost": func(s *suite) {
		for version := 1; version < 4; version++ {
			s.front.set(deaf)
			s.fails(copyAt(version), false)
			s.front.set(nil)
			s.must(copyAt(version))
			s.holds(version, version)
		}
	},
	"a lie is found": func(s *suite) {
		if !s.reads() {
			return
		}
		s.front.set(lying(copyAt(1).Items[0].Value))
		s.fails(copyAt(1), false, "holds another value")
	},
	"drift is found, and repaired": func(s *suite) {
		if !s.reads() {
			if _, err := s.to.Compare(s.Context(), here, copyAt(1)); !errors.Is(err, ErrNoReading) {
				s.Errorf("comparing says %v", err)
			}
			return
		}
		s.differs(copyAt(1), "is missing")
		s.must(copyAt(1))
		s.differs(copyAt(1), "")
		s.put(s.T, password, "set-by-hand")
		s.differs(copyAt(1), password+" has another value")
		s.must(copyAt(1))
		s.differs(copyAt(1), "")
		if value, _ := s.value(s.T, password); value != copyAt(1).Items[0].Value {
			s.Errorf("there is %q", value)
		}
	},
	"the preflight changes nothing": func(s *suite) {
		if err := s.to.Preflight(s.Context(), here, names()); err != nil {
			s.Errorf("the preflight says %v", err)
		}
		if value, versions := s.value(s.T, password); value != "" || versions != 0 {
			s.Errorf("there is %q after %d versions", value, versions)
		}
	},
}

func names() Copy {
	c, err := described().Names("mount/orders", "orders")
	if err != nil {
		panic(err)
	}
	return c
}

func (s *suite) differs(c Copy, want string) {
	s.Helper()
	differences, err := s.to.Compare(s.Context(), here, c)
	if got := strings.Join(differences, "; "); err != nil || !strings.Contains(got, want) || want == "" && got != "" {
		s.Errorf("the differences are %q, %v, want %q", got, err, want)
	}
}

// TestConformance runs the suite on every type there is.
func TestConformance(t *testing.T) {
	t.Parallel()
	all := map[string]func(*testing.T) held{
		TypeVaultKV: newKV, TypeWebhook: newReceiver, TypeAWSSecretsManager: newAWS,
	}
	for _, name := range Types() {
		for law, test := range conformance {
			t.Run(name+"/"+law, func(t *testing.T) {
				t.Parallel()
				h := all[name](t)
				f := newFront(t, h.address())
				to := h.target(t, f.URL)
				if err := to.Validate(); err != nil {
					t.Fatal(err)
				}
				test(&suite{T: t, held: h, front: f, to: bounded{to}})
			})
		}
	}
}
