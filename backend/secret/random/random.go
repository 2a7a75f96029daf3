// Package random is the type of secret "random": texts of random characters, or what a
// password policy of Vault makes.
package random

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"unicode"
	"unicode/utf8"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var _ secret.Type = driver{}

// Config configures any other generated secret: by a Vault password
// policy, or by length and charset.
type Config struct {
	// PasswordPolicy is the name of a Vault password policy.
	PasswordPolicy string `json:"password_policy,omitempty"`
	// Length is the number of characters, up to 1024; zero means 32.
	Length int `json:"length,omitempty"`
	// Charset is the characters to choose from, each once; empty means letters
	// and digits (ASCII).
	Charset string `json:"charset,omitempty"`
}

const (
	defaultLength = 32
	maxLength     = 1024
	// leastEntropy in bits is what an attacker who can try offline must at least
	// be faced with.
	leastEntropy = 64
)

// New returns the type "random". Passwords makes values by the policies of Vault.
func New(passwords secret.Passwords) secret.Type { return driver{passwords: passwords} }

// driver is the type "random". Its material is "value".
type driver struct {
	secret.NoTarget
	passwords secret.Passwords
}

// Schema implements secret.Type.
func (driver) Schema() secret.Schema {
	return secret.Schema{
		Settings: []secret.Field{
			{Name: "password_policy", Help: secret.PasswordPolicyHelp},
			{Name: "length", Kind: secret.Number, Help: "number of random characters, up to 1024; 32 by default."},
			{Name: "charset", Help: "the characters that values consist of; letters and digits by default."},
		},
		Imports: []secret.Field{{Name: "value", Kind: secret.Hidden, Help: "value to import."}},
		Answers: []secret.Answer{{Name: "value", Help: "the value."}},
	}
}

// Normalize implements secret.Type.
func (driver) Normalize(config json.RawMessage) (json.RawMessage, error) {
	return secret.Rewrite(config, func(*Config) {})
}

// ImportField implements secret.Type.
func (driver) ImportField(json.RawMessage, func(string) bool) (string, error) { return "value", nil }

// Validate implements secret.Type. Whether the policy exists shows when it is used.
func (driver) Validate(config json.RawMessage) error {
	_, err := readConfig(config)
	return err
}

// Create implements rotation.Driver.
func (t driver) Create(ctx context.Context, s rotation.Secret) (rotation.Material, error) {
	c, err := readConfig(s.Config)
	if err != nil {
		return nil, err
	}
	if c.PasswordPolicy == "" {
		return rotation.Material{"value": secret.Pick([]rune(c.Charset), c.Length)}, ctx.Err()
	}
	value, err := t.passwords.Generate(ctx, c.PasswordPolicy)
	if err != nil {
		return nil, fmt.Errorf("generate value by password policy %q: %w", c.PasswordPolicy, err)
	}
	if err := input.CheckText("password_policy", value, secret.MaxValue); err != nil {
		return nil, fmt.Errorf("use what password policy %q made: %w", c.PasswordPolicy, err)
	}
	return rotation.Material{"value": value}, nil
}

// Import takes any text of 1 byte to 64 KiB without NUL, also of several lines.
func (driver) Import(_ rotation.Secret, supplied string) (rotation.Material, error) {
	if err := input.CheckText("value", supplied, secret.MaxValue); err != nil {
		return nil, err
	}
	return rotation.Material{"value": supplied}, nil
}

// Test checks that there is something an application can be given: what it is
// for is not known here.
func (driver) Test(ctx context.Context, _ rotation.Secret, v rotation.Material) error {
	if err := input.CheckText("value", v["value"], secret.MaxValue); err != nil {
		return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	return ctx.Err()
}

// Fields implements secret.Type.
func (driver) Fields(_ rotation.Secret, v rotation.Material) (map[string]string, error) {
	value, err := v.Content("value")
	if err != nil {
		return nil, err
	}
	return map[string]string{"value": value}, nil
}

// PreviousFields is empty: readers get the previous value with stage=previous.
func (driver) PreviousFields(rotation.Material) map[string]string { return nil }

// Digests implements secret.Values.
func (driver) Digests(v rotation.Material) ([]secret.Digest, error) {
	value, err := v.Content("value")
	return []secret.Digest{secret.DigestOf(value)}, err
}

// Guesses implements secret.Values.
func (driver) Guesses(text string) []secret.Digest { return []secret.Digest{secret.DigestOf(text)} }

// Verify implements secret.Type.
func (t driver) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	if s.Current == nil {
		return nil, secret.ErrNoCurrent
	}
	if err := t.Test(ctx, s, s.Current.Material); err != nil {
		return nil, err
	}
	return []string{"value is there and intact as text"}, nil
}

// readConfig returns the configuration with its defaults.
func readConfig(config json.RawMessage) (Config, error) {
	c, err := input.Decode[Config](config)
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
		c.Length = defaultLength
	}
	if c.Charset == "" {
		c.Charset = secret.Base62
	}
	if c.Length < 1 || c.Length > maxLength {
		return c, rotation.Invalid("length", "%d is not within 1 and %d", c.Length, maxLength)
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

// entropy is the number of bits in a string of that many characters picked from
// an alphabet of that size.
func entropy(alphabet, length int) float64 {
	return float64(length) * math.Log2(float64(alphabet))
}
