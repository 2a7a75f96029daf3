package secret

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestConformance(t *testing.T) {
	for name, begin := range subjects {
		t.Run(name, func(t *testing.T) {
			var stock []rotation.Material
			subject := func(t *testing.T) *subject {
				s := begin(t)
				if s.costly {
					s.stock = &stock
				}
				return s
			}
			t.Run("create", func(t *testing.T) { subject(t).conformCreate() })
			t.Run("lifecycle", func(t *testing.T) { subject(t).conformLifecycle() })
			t.Run("undo", func(t *testing.T) { subject(t).conformUndo() })
			t.Run("fence", func(t *testing.T) { subject(t).conformFence() })
			t.Run("preflight", func(t *testing.T) { subject(t).conformPreflight() })
			t.Run("read", func(t *testing.T) { subject(t).conformRead() })
			t.Run("cancelled", func(t *testing.T) { subject(t).conformCancelled() })
			t.Run("configuration", func(t *testing.T) { subject(t).conformConfiguration() })
		})
	}
}

// create makes a value, or takes a costly one that was made for another test.
func (s *subject) create() rotation.Material {
	s.T.Helper()
	if n := len(s.made); s.stock != nil && n < len(*s.stock) {
		s.made = append(s.made, maps.Clone((*s.stock)[n]))
		return s.made[n]
	}
	v, err := s.Create(s.T.Context(), s.secret)
	expect.OK(s.T, err)
	s.made = append(s.made, v)
	if s.stock != nil {
		*s.stock = append(*s.stock, maps.Clone(v))
	}
	return v
}

func (s *subject) accepted(v rotation.Material) {
	s.T.Helper()
	expect.OK(s.T, s.Test(s.T.Context(), s.secret, v))
	expect.OK(s.T, s.Probe(s.T.Context(), s.secret, v))
}

// refused also checks that the refusal shows no secret.
func (s *subject) refused(v rotation.Material) {
	s.T.Helper()
	if s.external {
		err := s.Test(s.T.Context(), s.secret, v)
		expect.Refused(s.T, err)
		expect.SecretFree(s.T, err.Error(), s.made...)
		expect.Refused(s.T, s.Probe(s.T.Context(), s.secret, v))
	}
}

func (s *subject) set(v rotation.Material) {
	s.T.Helper()
	expect.OK(s.T, s.Set(s.T.Context(), s.secret, v, unfenced))
}

// commit makes v current and, if there was one, the current previous.
func (s *subject) commit(v rotation.Material) {
	s.secret.Previous, s.secret.Current, s.secret.Pending = s.secret.Current, s.Value(v), nil
	if previous := s.secret.Previous; previous != nil {
		kept := *previous
		kept.RetireTime = s.Now.Add(time.Hour)
		s.secret.Previous = &kept
	}
}

// first gives the secret its first value, if it has none.
func (s *subject) first() rotation.Material {
	s.T.Helper()
	if s.secret.Current == nil {
		v := s.create()
		s.set(v)
		s.commit(v)
	}
	return s.secret.Current.Material
}

func (s *subject) conformCreate() {
	values := 8
	if s.costly {
		values = 2
	}
	for range values {
		v := s.create()
		if slices.ContainsFunc(s.made[:len(s.made)-1], v.Equal) {
			s.T.Fatal("two values are the same")
		}
		s.refused(v)
	}
}

func (s *subject) conformLifecycle() {
	ctx, one := s.T.Context(), s.first()
	s.accepted(one)
	two := s.create()
	s.refused(two)
	s.set(two)
	s.set(two)
	s.accepted(two)
	if s.OffersPrevious(s.secret) {
		s.accepted(one)
	} else {
		s.refused(one)
	}
	if s.external && s.CutsOver(s.secret) == s.OffersPrevious(s.secret) {
		s.T.Error("a value that is cut over cannot be offered, and the other way round")
	}
	s.commit(two)
	s.verified()
	for range 2 {
		expect.OK(s.T, s.Retire(ctx, s.secret, one, unfenced))
	}
	s.refused(one)
	s.secret.Previous = nil
	s.accepted(two)
	s.verified()
	if err := s.Retire(ctx, s.secret, two, unfenced); s.external && err == nil {
		s.T.Error("the current value was retired")
	}
	s.accepted(two)
}

func (s *subject) verified() {
	s.T.Helper()
	proofs, err := s.Verify(s.T.Context(), s.secret)
	expect.OK(s.T, err)
	if len(proofs) == 0 {
		s.T.Error("nothing was proved")
	}
	expect.SecretFree(s.T, strings.Join(proofs, "\n"), s.made...)
}

func (s *subject) conformUndo() {
	ctx, one := s.T.Context(), s.first()
	two := s.create()
	s.secret.Pending = s.Value(two)
	expect.OK(s.T, s.Undo(ctx, s.secret, unfenced)) // before anything was set
	s.accepted(one)
	s.set(two)
	for range 2 {
		expect.OK(s.T, s.Undo(ctx, s.secret, unfenced))
		s.accepted(one)
		s.refused(two)
	}
	s.set(two)
	s.commit(two)
	three := s.create()
	s.secret.Pending = s.Value(three)
	s.set(three)
	expect.OK(s.T, s.Undo(ctx, s.secret, unfenced))
	s.accepted(two)
	s.refused(three)
	if s.OffersPrevious(s.secret) {
		s.accepted(one)
	}
	s.Now = s.Now.Add(2 * time.Hour) // the overlap is over, and one with it
	expect.OK(s.T, s.Undo(ctx, s.secret, unfenced))
	s.accepted(two)
	s.refused(one)
	s.refused(three)
}

// unfenced is the fence of a node that nobody has replaced.
func unfenced(context.Context) error { return nil }

// conformFence refuses every change at the last moment: none may take effect, not
// even after the node that was stopped has long hung up.
func (s *subject) conformFence() {
	ctx, one := s.T.Context(), s.first()
	replaced := errors.New("another node has taken over")
	fence := func(context.Context) error { return replaced }
	two := s.create()
	s.secret.Pending = s.Value(two)
	if err := s.Set(ctx, s.secret, two, fence); s.external && !errors.Is(err, replaced) {
		s.T.Errorf("set past the fence: %v", err)
	}
	s.accepted(one)
	s.refused(two)
	s.set(two)
	if err := s.Undo(ctx, s.secret, fence); s.external && err != nil && !errors.Is(err, replaced) {
		s.T.Errorf("undone past the fence: %v", err)
	}
	s.accepted(two)
	expect.OK(s.T, s.Undo(ctx, s.secret, unfenced))
	s.accepted(one)
}

func (s *subject) conformPreflight() {
	one := s.first()
	two := s.create()
	findings, err := s.Preflight(s.T.Context(), s.secret, two)
	expect.OK(s.T, err)
	if len(findings) > 0 {
		s.T.Errorf("findings where all is well: %q", findings)
	}
	s.accepted(one)
	s.refused(two)
}

func (s *subject) conformRead() {
	one := s.first()
	fields, err := s.Fields(s.secret, one)
	expect.OK(s.T, err)
	for name, content := range fields {
		system := name == "ssl_root_certificate" // empty: the authorities of the operating system
		if content == "" && !system || strings.HasPrefix(name, "previous_") {
			s.T.Errorf("field %q is empty or misnamed", name)
		}
	}
	for name := range s.PreviousFields(one) {
		if !strings.HasPrefix(name, "previous_") {
			s.T.Errorf("field %q is misnamed", name)
		}
	}
	if _, err := s.Fields(s.secret, rotation.Material{}); err == nil {
		s.T.Error("a value without content was readable")
	}
	imported, err := s.Import(s.secret, s.supplied)
	expect.OK(s.T, err)
	for _, bad := range []string{"", "\xff\xfe" + s.supplied, s.supplied + "\x00", strings.Repeat("x", maxValue+1)} {
		_, err := s.Import(s.secret, bad)
		expect.Invalid(s.T, err)
	}
	if !s.external {
		s.accepted(imported)
		return
	}
	s.refused(imported)
	s.set(imported)
	s.accepted(imported)
}

func (s *subject) conformCancelled() {
	one := s.first()
	two := s.create()
	s.secret.Pending = s.Value(two)
	ctx, cancel := context.WithCancel(s.T.Context())
	cancel()
	calls := map[string]func() error{
		"create":    func() error { _, err := s.Create(ctx, s.secret); return err },
		"set":       func() error { return s.Set(ctx, s.secret, two, unfenced) },
		"test":      func() error { return s.Test(ctx, s.secret, one) },
		"probe":     func() error { return s.Probe(ctx, s.secret, one) },
		"undo":      func() error { return s.Undo(ctx, s.secret, unfenced) },
		"retire":    func() error { return s.Retire(ctx, s.secret, two, unfenced) },
		"preflight": func() error { _, err := s.Preflight(ctx, s.secret, two); return err },
		"verify":    func() error { _, err := s.Verify(ctx, s.secret); return err },
	}
	for name, call := range calls {
		began := time.Now()
		err := call()
		if err == nil || time.Since(began) > 2*time.Second {
			s.T.Errorf("%s: %v after %s, want an error at once", name, err, time.Since(began))
		} else if !errors.Is(err, context.Canceled) || errors.Is(err, rotation.ErrRefused) {
			s.T.Errorf("%s: %v, want that the context was cancelled", name, err)
		}
	}
	s.accepted(one)
}

func (s *subject) conformConfiguration() {
	expect.OK(s.T, s.Validate(s.secret.Config))
	expect.OK(s.T, s.ValidateUpdate(s.secret.Config, s.secret.Config))
	var config map[string]any
	expect.OK(s.T, json.Unmarshal(s.secret.Config, &config))
	config["misspelt"] = 1
	data, err := json.Marshal(config)
	expect.OK(s.T, err)
	expect.Invalid(s.T, s.Validate(data), "misspelt")
	expect.Invalid(s.T, s.Validate([]byte(`{`)))
	expect.Invalid(s.T, s.Validate([]byte(`[]`)))
	if _, err := s.Verify(s.T.Context(), rotation.Secret{Config: s.secret.Config}); err == nil {
		s.T.Error("a secret without a value was verified")
	}
}
