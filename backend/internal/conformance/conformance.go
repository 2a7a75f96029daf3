// Package conformance is the suite that every type of secret passes, and what its tests
// have in common.
package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Subject is one type of secret in one configuration.
type Subject struct {
	secret.Values
	T      testing.TB
	Secret rotation.Secret
	// Now is the clock of the target.
	Now *time.Time
	// External says that there is a target, which must refuse what is not set.
	External bool
	// Supplied is what an operator may import.
	Supplied string
	// Costly says that its values take long to make, as RSA keys do.
	Costly bool
	// stock are costly values that it made for earlier tests.
	stock *[]rotation.Material
	made  []rotation.Material
}

// New is a subject without a target.
func New(t testing.TB, values secret.Values, kind string, config any, supplied string) *Subject {
	now := time.Now()
	return &Subject{Values: values, T: t, Secret: SecretOf(t, kind, config), Now: &now, Supplied: supplied}
}

// SecretOf is a secret without any value.
func SecretOf(t testing.TB, kind string, config any) rotation.Secret {
	t.Helper()
	data, err := json.Marshal(config)
	expect.OK(t, err)
	return rotation.Secret{Name: "s", Type: kind, Config: data}
}

// Value is a value that is made now.
func (s *Subject) Value(m rotation.Material) *rotation.Value {
	return &rotation.Value{Material: m, Version: 1, Created: *s.Now}
}

// Run runs the suite on each of the subjects, of which it makes many.
func Run(t *testing.T, subjects map[string]func(t *testing.T) *Subject) {
	for name, begin := range subjects {
		t.Run(name, func(t *testing.T) {
			var stock []rotation.Material
			subject := func(t *testing.T) *Subject {
				s := begin(t)
				if s.Costly {
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

// Make creates a value, or takes a costly one that was made for another test.
func (s *Subject) Make() rotation.Material {
	s.T.Helper()
	if n := len(s.made); s.stock != nil && n < len(*s.stock) {
		s.made = append(s.made, maps.Clone((*s.stock)[n]))
		return s.made[n]
	}
	v, err := s.Create(s.T.Context(), s.Secret)
	expect.OK(s.T, err)
	s.made = append(s.made, v)
	if s.stock != nil {
		*s.stock = append(*s.stock, maps.Clone(v))
	}
	return v
}

// Accepted checks that the target accepts a value.
func (s *Subject) Accepted(v rotation.Material) {
	s.T.Helper()
	expect.OK(s.T, s.Test(s.T.Context(), s.Secret, v))
	expect.OK(s.T, s.Probe(s.T.Context(), s.Secret, v))
}

// Refused checks that the target, if there is one, refuses a value and shows no secret.
func (s *Subject) Refused(v rotation.Material) {
	s.T.Helper()
	if s.External {
		err := s.Test(s.T.Context(), s.Secret, v)
		expect.Refused(s.T, err)
		expect.SecretFree(s.T, err.Error(), s.made...)
		expect.Refused(s.T, s.Probe(s.T.Context(), s.Secret, v))
	}
}

// Apply sets a value.
func (s *Subject) Apply(v rotation.Material) {
	s.T.Helper()
	expect.OK(s.T, s.Set(s.T.Context(), s.Secret, v, Unfenced))
}

// Commit makes v current and, if there was one, the current previous.
func (s *Subject) Commit(v rotation.Material) {
	s.Secret.Previous, s.Secret.Current, s.Secret.Pending = s.Secret.Current, s.Value(v), nil
	if previous := s.Secret.Previous; previous != nil {
		kept := *previous
		kept.RetireTime = s.Now.Add(time.Hour)
		s.Secret.Previous = &kept
	}
}

// First gives the secret its first value, if it has none.
func (s *Subject) First() rotation.Material {
	s.T.Helper()
	if s.Secret.Current == nil {
		v := s.Make()
		s.Apply(v)
		s.Commit(v)
	}
	return s.Secret.Current.Material
}

func (s *Subject) conformCreate() {
	values := 8
	if s.Costly {
		values = 2
	}
	for range values {
		v := s.Make()
		if slices.ContainsFunc(s.made[:len(s.made)-1], v.Equal) {
			s.T.Fatal("two values are the same")
		}
		s.Refused(v)
	}
}

func (s *Subject) conformLifecycle() {
	ctx, one := s.T.Context(), s.First()
	s.Accepted(one)
	two := s.Make()
	s.Refused(two)
	s.Apply(two)
	s.Apply(two)
	s.Accepted(two)
	if s.OffersPrevious(s.Secret) {
		s.Accepted(one)
	} else {
		s.Refused(one)
	}
	if s.External && s.CutsOver(s.Secret) == s.OffersPrevious(s.Secret) {
		s.T.Error("a value that is cut over cannot be offered, and the other way round")
	}
	s.Commit(two)
	s.verified()
	for range 2 {
		expect.OK(s.T, s.Retire(ctx, s.Secret, one, Unfenced))
	}
	s.Refused(one)
	s.Secret.Previous = nil
	s.Accepted(two)
	s.verified()
	if err := s.Retire(ctx, s.Secret, two, Unfenced); s.External && err == nil {
		s.T.Error("the current value was retired")
	}
	s.Accepted(two)
}

func (s *Subject) verified() {
	s.T.Helper()
	proofs, err := s.Verify(s.T.Context(), s.Secret)
	expect.OK(s.T, err)
	if len(proofs) == 0 {
		s.T.Error("nothing was proved")
	}
	expect.SecretFree(s.T, strings.Join(proofs, "\n"), s.made...)
}

func (s *Subject) conformUndo() {
	ctx, one := s.T.Context(), s.First()
	two := s.Make()
	s.Secret.Pending = s.Value(two)
	expect.OK(s.T, s.Undo(ctx, s.Secret, Unfenced)) // before anything was set
	s.Accepted(one)
	s.Apply(two)
	for range 2 {
		expect.OK(s.T, s.Undo(ctx, s.Secret, Unfenced))
		s.Accepted(one)
		s.Refused(two)
	}
	s.Apply(two)
	s.Commit(two)
	three := s.Make()
	s.Secret.Pending = s.Value(three)
	s.Apply(three)
	expect.OK(s.T, s.Undo(ctx, s.Secret, Unfenced))
	s.Accepted(two)
	s.Refused(three)
	if s.OffersPrevious(s.Secret) {
		s.Accepted(one)
	}
	*s.Now = s.Now.Add(2 * time.Hour) // the overlap is over, and one with it
	expect.OK(s.T, s.Undo(ctx, s.Secret, Unfenced))
	s.Accepted(two)
	s.Refused(one)
	s.Refused(three)
}

// Unfenced is the fence of a node that nobody has replaced.
func Unfenced(context.Context) error { return nil }

// conformFence refuses every change at the last moment: none may take effect, not
// even after the node that was stopped has long hung up.
func (s *Subject) conformFence() {
	ctx, one := s.T.Context(), s.First()
	replaced := errors.New("another node has taken over")
	fence := func(context.Context) error { return replaced }
	two := s.Make()
	s.Secret.Pending = s.Value(two)
	if err := s.Set(ctx, s.Secret, two, fence); s.External && !errors.Is(err, replaced) {
		s.T.Errorf("set past the fence: %v", err)
	}
	s.Accepted(one)
	s.Refused(two)
	s.Apply(two)
	if err := s.Undo(ctx, s.Secret, fence); s.External && err != nil && !errors.Is(err, replaced) {
		s.T.Errorf("undone past the fence: %v", err)
	}
	s.Accepted(two)
	expect.OK(s.T, s.Undo(ctx, s.Secret, Unfenced))
	s.Accepted(one)
}

func (s *Subject) conformPreflight() {
	one := s.First()
	two := s.Make()
	findings, err := secret.Try(s.T.Context(), s.Values, s.Secret, two)
	expect.OK(s.T, err)
	if len(findings) > 0 {
		s.T.Errorf("findings where all is well: %q", findings)
	}
	s.Accepted(one)
	s.Refused(two)
}

func (s *Subject) conformRead() {
	one := s.First()
	fields, err := s.Fields(s.Secret, one)
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
	if _, err := s.Fields(s.Secret, rotation.Material{}); err == nil {
		s.T.Error("a value without content was readable")
	}
	imported, err := s.Import(s.Secret, s.Supplied)
	expect.OK(s.T, err)
	for _, bad := range []string{"", "\xff\xfe" + s.Supplied, s.Supplied + "\x00", strings.Repeat("x", secret.MaxValue+1)} {
		_, err := s.Import(s.Secret, bad)
		expect.Invalid(s.T, err)
	}
	s.recognized(imported, s.Supplied)
	if !s.External {
		s.Accepted(imported)
		return
	}
	s.Refused(imported)
	s.Apply(imported)
	s.Accepted(imported)
}

// recognized checks that a value is recognized by the text of it, and by no other.
func (s *Subject) recognized(v rotation.Material, text string) {
	s.T.Helper()
	digests, err := s.Digests(v)
	expect.OK(s.T, err)
	is := func(text string) bool {
		return slices.ContainsFunc(s.Guesses(text), func(d secret.Digest) bool { return slices.Contains(digests, d) })
	}
	if !is(text) || !is(text+"\n") || is(text+"x") || is("") {
		s.T.Error("a value is not recognized by its text, or by another one")
	}
	other, err := s.Digests(s.Make())
	expect.OK(s.T, err)
	if slices.ContainsFunc(other, func(d secret.Digest) bool { return slices.Contains(digests, d) }) {
		s.T.Error("two values have a digest in common")
	}
	if _, err := s.Digests(rotation.Material{}); err == nil {
		s.T.Error("a value without content has a digest")
	}
}

func (s *Subject) conformCancelled() {
	one := s.First()
	two := s.Make()
	s.Secret.Pending = s.Value(two)
	ctx, cancel := context.WithCancel(s.T.Context())
	cancel()
	calls := map[string]func() error{
		"create":    func() error { _, err := s.Create(ctx, s.Secret); return err },
		"set":       func() error { return s.Set(ctx, s.Secret, two, Unfenced) },
		"test":      func() error { return s.Test(ctx, s.Secret, one) },
		"probe":     func() error { return s.Probe(ctx, s.Secret, one) },
		"undo":      func() error { return s.Undo(ctx, s.Secret, Unfenced) },
		"retire":    func() error { return s.Retire(ctx, s.Secret, two, Unfenced) },
		"preflight": func() error { _, err := secret.Try(ctx, s.Values, s.Secret, two); return err },
		"verify":    func() error { _, err := s.Verify(ctx, s.Secret); return err },
	}
	for name, call := range calls {
		began := time.Now()
		err := call()
		if err == nil || time.Since(began) > 30*time.Second {
			s.T.Errorf("%s: %v after %s, want an error at once", name, err, time.Since(began))
		} else if !errors.Is(err, context.Canceled) || errors.Is(err, rotation.ErrRefused) {
			s.T.Errorf("%s: %v, want that the context was cancelled", name, err)
		}
	}
	s.Accepted(one)
}

func (s *Subject) conformConfiguration() {
	expect.OK(s.T, s.Validate(s.Secret.Config))
	expect.OK(s.T, s.ValidateUpdate(s.Secret.Config, s.Secret.Config))
	var config map[string]any
	expect.OK(s.T, json.Unmarshal(s.Secret.Config, &config))
	config["misspelt"] = 1
	data, err := json.Marshal(config)
	expect.OK(s.T, err)
	expect.Invalid(s.T, s.Validate(data), "misspelt")
	expect.Invalid(s.T, s.Validate([]byte(`{`)))
	expect.Invalid(s.T, s.Validate([]byte(`[]`)))
	if _, err := s.Verify(s.T.Context(), rotation.Secret{Config: s.Secret.Config}); err == nil {
		s.T.Error("a secret without a value was verified")
	}
}

// Policies stands for Vault: the name of a policy is what it makes, with a
// number behind it.
type Policies struct{}

// generated counts what they made.
var generated atomic.Int64

// Generate implements secret.Passwords.
func (Policies) Generate(ctx context.Context, policy string) (string, error) {
	if policy == "missing" {
		return "", errors.New("no password policy found")
	}
	return fmt.Sprintf("%s%d", policy, generated.Add(1)), ctx.Err()
}

// Configuration is one that a type refuses, with words that say why.
type Configuration = struct {
	Config any
	Words  []string
}

// RefusesConfigurations checks that a type refuses configurations, and makes no value of
// such a secret.
func RefusesConfigurations(t *testing.T, values secret.Values, bad map[string]Configuration) {
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			s := SecretOf(t, "", c.Config)
			expect.Invalid(t, values.Validate(s.Config), c.Words...)
			if _, err := values.Create(t.Context(), s); err == nil {
				t.Error("a value was made all the same")
			}
		})
	}
}

// RefusesImports checks that a type with no configuration takes none of the texts, and
// quotes none.
func RefusesImports(t *testing.T, values secret.Values, supplied ...string) {
	for _, text := range supplied {
		_, err := values.Import(SecretOf(t, "", struct{}{}), text)
		expect.Invalid(t, err)
		if strings.Contains(err.Error(), text) {
			t.Errorf("%v quotes what was supplied", err)
		}
	}
}
