package secret

import (
	"context"
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

var _ Type = random{}

// RandomConfig configures any other generated secret: by a Vault password
// policy, or by length and charset.
type RandomConfig struct {
	// PasswordPolicy is the name of a Vault password policy.
	PasswordPolicy string `json:"password_policy,omitempty"`
	// Length is the number of characters, up to 1024; zero means 32.
	Length int `json:"length,omitempty"`
	// Charset is the characters to choose from, each once; empty means letters
	// and digits (ASCII).
	Charset string `json:"charset,omitempty"`
}

const (
	defaultRandomLength = 32
	maxRandomLength     = 1024
	// leastEntropy in bits is what an attacker who can try offline must at least
	// be faced with.
	leastEntropy = 64
)

// random is the type "random". Its material is "value".
type random struct {
	local
	passwords Passwords
}

// Schema implements Type.
func (random) Schema() Schema {
	return Schema{
		Settings: []Field{
			{Name: "password_policy", Help: passwordPolicyHelp},
			{Name: "length", Kind: Number, Help: "number of random characters, up to 1024; 32 by default."},
			{Name: "charset", Help: "the characters to choose from."},
		},
		Imports: []Field{{Name: "value", Kind: Hidden, Help: "value to import."}},
		Answers: []string{"value"},
	}
}

// Normalize implements Type.
func (random) Normalize(config json.RawMessage) (json.RawMessage, error) {
	return rewritten(config, func(*RandomConfig) {})
}

// ImportField implements Type.
func (random) ImportField(json.RawMessage, func(string) bool) (string, error) { return "value", nil }

// Validate implements Type. Whether the policy exists shows when it is used.
func (random) Validate(config json.RawMessage) error {
	_, err := randomConfig(config)
	return err
}

// Create implements rotation.Driver.
func (t random) Create(ctx context.Context, s rotation.Secret) (rotation.Material, error) {
	c, err := randomConfig(s.Config)
	if err != nil {
		return nil, err
	}
	if c.PasswordPolicy == "" {
		return rotation.Material{"value": pick([]rune(c.Charset), c.Length)}, ctx.Err()
	}
	value, err := t.passwords.Generate(ctx, c.PasswordPolicy)
	if err != nil {
		return nil, fmt.Errorf("generate value by password policy %q: %w", c.PasswordPolicy, err)
	}
	if err := input.CheckText("password_policy", value, maxValue); err != nil {
		return nil, fmt.Errorf("use what password policy %q made: %w", c.PasswordPolicy, err)
	}
	return rotation.Material{"value": value}, nil
}

// Import takes any text of 1 byte to 64 KiB without NUL, also of several lines.
func (random) Import(_ rotation.Secret, supplied string) (rotation.Material, error) {
	if err := input.CheckText("value", supplied, maxValue); err != nil {
		return nil, err
	}
	return rotation.Material{"value": supplied}, nil
}

// Test checks that there is something an application can be given: what it is
// for is not known here.
func (random) Test(ctx context.Context, _ rotation.Secret, v rotation.Material) error {
	if err := input.CheckText("value", v["value"], maxValue); err != nil {
		return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	return ctx.Err()
}

// Preflight is Test: there is no target.
func (t random) Preflight(ctx context.Context, s rotation.Secret, v rotation.Material) ([]string, error) {
	return nil, t.Test(ctx, s, v)
}

// Fields implements Type.
func (random) Fields(_ rotation.Secret, v rotation.Material) (map[string]string, error) {
	value, err := v.Content("value")
	if err != nil {
		return nil, err
	}
	return map[string]string{"value": value}, nil
}

// PreviousFields is empty: readers get the previous value with stage=previous.
func (random) PreviousFields(rotation.Material) map[string]string { return nil }

// Verify implements Type.
func (t random) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	if s.Current == nil {
		return nil, errNoCurrent
	}
	if err := t.Test(ctx, s, s.Current.Material); err != nil {
		return nil, err
	}
	return []string{"value is there and intact as text"}, nil
}

// randomConfig returns the configuration with its defaults.
func randomConfig(config json.RawMessage) (RandomConfig, error) {
	c, err := input.Decode[RandomConfig](config)
	if err != nil {
		return c, err
	}
	if c.PasswordPolicy != "" {
		if c.Length != 0 || c.Charset != "" {
			return c, rotation.Invalid("password_policy", "excludes length and charset: leave these out, or the policy")
		}
		return c, input.CheckPrintable("password_policy", c.PasswordPolicy, 512)
	}
	if c.Length == 0 {
		c.Length = defaultRandomLength
	}
	if c.Charset == "" {
		c.Charset = base62
	}
	if c.Length < 1 || c.Length > maxRandomLength {
		return c, rotation.Invalid("length", "%d is not within 1 and %d", c.Length, maxRandomLength)
	}
	return c, checkCharset(c.Charset, c.Length)
}

// checkCharset refuses repeated characters, which would be chosen more often
// than others, and what can be guessed.
func checkCharset(charset string, length int) error {
	if err := input.CheckText("charset", charset, 4096); err != nil {
		return err
	}
	seen := make(map[rune]bool)
	for _, c := range charset {
		if !unicode.IsGraphic(c) || unicode.IsSpace(c) {
			return rotation.Invalid("charset", "contains a space or an unprintable character")
		}
		if seen[c] {
			return rotation.Invalid("charset", "contains %q twice: give every character once", c)
		}
		seen[c] = true
	}
	size := utf8.RuneCountInString(charset)
	if bits := entropy(size, length); bits < leastEntropy {
		return rotation.Invalid("length", "%d of %d different characters give %.0f bits, at least %d are needed: give a longer length or charset", length, size, bits, leastEntropy)
	}
	return nil
}
