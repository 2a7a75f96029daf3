package apikey

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var _ rotation.Concealer = driver{}

// Conceal keeps the SHA-256 of a key. No salt and no slow hash is needed, as they
// are for passwords: a key has at least 131 random bits, which nobody guesses and no
// table holds. What is imported has to be as random for that to be true.
func (driver) Conceal(v rotation.Material) rotation.Material {
	digest := sha256.Sum256([]byte(v["key"]))
	kept := rotation.Material{"sha256": hex.EncodeToString(digest[:])}
	if v["origin"] != "" {
		kept["origin"] = v["origin"]
	}
	return kept
}

// digestOf returns the SHA-256 of the key that v is, or that is kept of it.
func digestOf(v rotation.Material) (digest [sha256.Size]byte, err error) {
	if v["sha256"] == "" {
		return sha256.Sum256([]byte(v["key"])), nil
	}
	kept, err := hex.DecodeString(v["sha256"])
	if err != nil || len(kept) != sha256.Size {
		return digest, errors.New("the stored hash of the key is not a SHA-256")
	}
	return [sha256.Size]byte(kept), nil
}

// Digests implements secret.Values. Of a key that is not kept, creds answers the hash,
// which is a text by which somebody can hold it.
func (driver) Digests(v rotation.Material) ([]secret.Digest, error) {
	if v["sha256"] == "" {
		key, err := v.Content("key")
		return []secret.Digest{secret.DigestOf(key)}, err
	}
	digest, err := digestOf(v)
	return []secret.Digest{digest, secret.DigestOf(v["sha256"])}, err
}

// Guesses implements secret.Values.
func (driver) Guesses(text string) []secret.Digest { return []secret.Digest{secret.DigestOf(text)} }

// ValidateUpdate refuses to change what is kept: the keys that there are would stay
// as they are, and nobody could tell which.
func (driver) ValidateUpdate(old, updated json.RawMessage) error {
	before, err := readConfig(old)
	if err != nil {
		return err
	}
	after, err := readConfig(updated)
	if err == nil && before.HashOnly != after.HashOnly {
		err = rotation.Invalid("hash_only", "cannot be changed: delete the secret and create it again, or create another one")
	}
	return err
}
