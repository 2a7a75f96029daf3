package secret

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// Digest is the SHA-256 of a text by which a value can be held. It recognizes a value
// that is not kept.
type Digest [sha256.Size]byte

// DigestOf is the digest of a text, whatever space is around it and however its lines
// end: files and terminals add that.
func DigestOf(text string) Digest {
	return sha256.Sum256([]byte(strings.ReplaceAll(strings.TrimSpace(text), "\r\n", "\n")))
}

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) {
	return []byte(base64.RawStdEncoding.EncodeToString(d[:])), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	raw, err := base64.RawStdEncoding.DecodeString(string(text))
	if err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("decode digest: %d bytes are none", len(text))
	}
	*d = Digest(raw)
	return nil
}
