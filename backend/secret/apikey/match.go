package apikey

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Why a key is no key, for whoever presents it. Neither repeats it.
var (
	errMistyped   = errors.New("the checksum is wrong: the key was mistyped or cut off")
	errUnknownKey = errors.New("the key is neither the current one nor a previous one in its overlap")
)

// Match returns the value of s that key is: the current one, or the previous
// one if it is still valid at that time. The error says in words for its presenter
// why it is neither. A mistyped key is recognized before anything is compared. Any
// other is compared with both values, each time and by their hashes, so that the
// time it takes tells nothing of how much of it is right, of its length, or of its
// stage.
func Match(s rotation.Secret, key string, now time.Time) (*rotation.Value, error) {
	previous := s.PreviousAt(now)
	if mistyped(s, key) && !isImported(s.Current) && !isImported(previous) {
		return nil, errMistyped
	}
	digest := sha256.Sum256([]byte(key))
	isCurrent, isPrevious := compare(s.Current, digest), compare(previous, digest)
	switch {
	case isCurrent == 1:
		return s.Current, nil
	case isPrevious == 1:
		return previous, nil
	}
	return nil, errUnknownKey
}

// mistyped reports whether key begins as those of s do and ends otherwise.
func mistyped(s rotation.Secret, key string) bool {
	c, err := readConfig(s.Config)
	return err == nil && strings.HasPrefix(key, c.Prefix+"_") && !hasChecksum(key)
}

// isImported reports whether a value came from elsewhere, where checksums may be
// unknown.
func isImported(v *rotation.Value) bool {
	return v != nil && v.Material["origin"] == originImported
}

// compare returns 1 if v is the key with that SHA-256, else 0. A value that
// is not there is compared as well, with what no key hashes to.
func compare(v *rotation.Value, digest [sha256.Size]byte) int {
	var want [sha256.Size]byte
	if v != nil {
		want, _ = digestOf(v.Material) // what is damaged is no key's
	}
	return subtle.ConstantTimeCompare(want[:], digest[:])
}
