// Package apikey is the type of secret "api_key": keys that this engine makes, and tells
// whether a key that somebody presents is one of them.
package apikey

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var _ secret.Presented = driver{}

// Config configures an API key.
type Config struct {
	// Prefix tells people and secret scanners whose key it is; empty means smvm.
	Prefix string `json:"prefix,omitempty"`
	// Length is the number of random characters, 22 (131 bits) to 128; zero
	// means 43 (256 bits).
	Length int `json:"length,omitempty"`
	// HashOnly keeps the SHA-256 of each key in place of the key, which is shown once.
	HashOnly bool `json:"hash_only,omitempty"`
}

const (
	defaultPrefix  = "smvm"
	defaultLength  = 43
	checksumLength = 6
)

var validPrefix = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9]{0,31}$`)

// New returns the type "api_key".
func New() secret.Type { return driver{} }

// driver is the type "api_key". Its material is "key", in GitHub's format: the
// prefix, an underscore, random letters and digits, and six more that are the
// CRC-32 of everything before them in base 62, so that a scanner can tell a real
// key from a look-alike, and a reader a mistyped one, without asking anybody.
// The material of an imported key also has "origin", because such a key has no
// checksum to test. With hash_only, what is kept is "sha256" in place of "key".
type driver struct{ secret.NoTarget }

const originImported = "imported"

// Schema implements secret.Type.
func (driver) Schema() secret.Schema {
	return secret.Schema{
		Settings: []secret.Field{
			{Name: "prefix", Help: "text at the beginning of every key, by which secret scanners recognize it; smvm by default."},
			{Name: "length", Kind: secret.Number, Help: "number of random characters, 22 to 128. Each has 5.95 bits; the default of 43 gives 256 bits."},
			{Name: "hash_only", Kind: secret.Switch, Help: "whether the engine stores only the SHA-256 of each key. Only the request that makes a key (the one that creates the secret, or rotate) returns it, always response-wrapped. The schedule does not rotate the secret, because nobody would get the key. creds returns key_sha256."},
		},
		Imports: []secret.Field{{Name: "key", Kind: secret.Hidden, Help: "key to import."}},
		Answers: []secret.Answer{
			{Name: "key", Help: "the current key; not with hash_only."},
			{Name: "previous_key", Help: "the previous key; only during its overlap, and not with hash_only."},
			{Name: "key_sha256", Help: "SHA-256 of the current key, in hex; only with hash_only."},
			{Name: "previous_key_sha256", Help: "SHA-256 of the previous key, in hex; only during its overlap and with hash_only."},
		},
	}
}

// Normalize implements secret.Type.
func (driver) Normalize(config json.RawMessage) (json.RawMessage, error) {
	return secret.Rewrite(config, func(*Config) {})
}

// IsShownOnce implements secret.ShownOnce.
func (driver) IsShownOnce(config json.RawMessage) bool {
	c, err := readConfig(config)
	return err == nil && c.HashOnly
}

// ImportField implements secret.Type.
func (driver) ImportField(json.RawMessage, func(string) bool) (string, error) { return "key", nil }

// Validate implements secret.Type.
func (driver) Validate(config json.RawMessage) error {
	_, err := readConfig(config)
	return err
}

// Create implements rotation.Driver.
func (driver) Create(ctx context.Context, s rotation.Secret) (rotation.Material, error) {
	c, err := readConfig(s.Config)
	if err != nil {
		return nil, err
	}
	body := c.Prefix + "_" + secret.Pick([]rune(secret.Base62), c.Length)
	return rotation.Material{"key": body + checksum(body)}, ctx.Err()
}

// Import takes any key of 16 to 512 printable ASCII characters without spaces.
func (t driver) Import(s rotation.Secret, supplied string) (rotation.Material, error) {
	if len(supplied) < 16 || len(supplied) > 512 {
		return nil, rotation.Invalid("key", "has %d bytes; it must have from 16 to 512", len(supplied))
	}
	for _, c := range []byte(supplied) {
		if c <= ' ' || c > '~' {
			return nil, rotation.Invalid("key", "may only contain printable ASCII characters, without spaces")
		}
	}
	v := rotation.Material{"key": supplied, "origin": originImported}
	if c, err := readConfig(s.Config); err != nil || c.HashOnly {
		return t.Conceal(v), err
	}
	return v, nil
}

// Test checks the format, and the checksum of keys made here.
func (driver) Test(ctx context.Context, _ rotation.Secret, v rotation.Material) error {
	if err := check(v); err != nil {
		return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	return ctx.Err()
}

// Fields implements secret.Type.
func (driver) Fields(_ rotation.Secret, v rotation.Material) (map[string]string, error) {
	if v["sha256"] != "" {
		return map[string]string{"key_sha256": v["sha256"]}, nil
	}
	key, err := v.Content("key")
	if err != nil {
		return nil, err
	}
	return map[string]string{"key": key}, nil
}

// PreviousFields lets a server accept the key that its clients had before.
func (driver) PreviousFields(previous rotation.Material) map[string]string {
	if previous["sha256"] != "" {
		return map[string]string{"previous_key_sha256": previous["sha256"]}
	}
	return map[string]string{"previous_key": previous["key"]}
}

// Presents implements secret.Presented.
func (driver) Presents() string { return "previous_key" }

// Verify implements secret.Type.
func (t driver) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	if s.Current == nil {
		return nil, secret.ErrNoCurrent
	}
	if err := t.Test(ctx, s, s.Current.Material); err != nil {
		return nil, err
	}
	if s.Current.Material["sha256"] != "" {
		return []string{"the engine stores only the SHA-256 of the key; write a key to api-key/…/verify to prove it"}, nil
	}
	if s.Current.Material["origin"] == originImported {
		return []string{"imported key has an acceptable format"}, nil
	}
	return []string{"key has the right format and checksum"}, nil
}

// readConfig returns the configuration with its defaults.
func readConfig(config json.RawMessage) (Config, error) {
	c, err := input.Decode[Config](config)
	if err != nil {
		return c, err
	}
	if c.Prefix == "" {
		c.Prefix = defaultPrefix
	}
	if c.Length == 0 {
		c.Length = defaultLength
	}
	if !validPrefix.MatchString(c.Prefix) {
		return c, rotation.Invalid("prefix", "must be a letter followed by at most 31 letters and digits (ASCII)")
	}
	if c.Length < 22 || c.Length > 128 {
		return c, rotation.Invalid("length", "%d is not within 22 and 128", c.Length)
	}
	return c, nil
}

func check(v rotation.Material) error {
	if v["sha256"] != "" {
		_, err := digestOf(v)
		return err
	}
	key, err := v.Content("key")
	if err != nil || v["origin"] == originImported {
		return err
	}
	if !hasChecksum(key) {
		return errors.New("checksum of the key is wrong")
	}
	return nil
}

// hasChecksum reports whether key ends in the checksum of what stands before it.
func hasChecksum(key string) bool {
	split := len(key) - checksumLength
	return split > 0 && subtle.ConstantTimeCompare([]byte(checksum(key[:split])), []byte(key[split:])) == 1
}

// checksum returns the CRC-32 (IEEE) of body as six digits of base 62.
func checksum(body string) string {
	n := crc32.ChecksumIEEE([]byte(body))
	digits := make([]byte, checksumLength)
	for i := checksumLength - 1; i >= 0; i-- {
		digits[i] = secret.Base62[n%62]
		n /= 62
	}
	return string(digits)
}
