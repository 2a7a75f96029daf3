package smvmcreds

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
)

// AcceptsKey reports whether offered is the current value of a secret of type
// api_key, or during the overlap the previous one. How long it takes tells
// nothing about the values. A key that is neither makes the source read again,
// because whoever sends it may have seen a rotation first.
func (s *Source) AcceptsKey(ctx context.Context, secret, offered string) bool {
	if offered == "" {
		return false
	}
	if s.Current().acceptsKey(secret, offered) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	return s.Refresh(ctx) == nil && s.Current().acceptsKey(secret, offered)
}

// acceptsKey compares digests, which have the same length whatever was offered,
// and always both.
func (c *Credentials) acceptsKey(secret, offered string) bool {
	accepted := 0
	digest := sha256.Sum256([]byte(offered))
	for _, field := range []string{"key", "previous_key"} {
		key := c.Value(secret, field)
		expected := sha256.Sum256([]byte(key))
		if key != "" {
			accepted |= subtle.ConstantTimeCompare(digest[:], expected[:])
		}
	}
	return accepted == 1
}
