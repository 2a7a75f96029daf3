package jwt

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Keyring is the keys of one secret of type jwt, parsed: current signs, current
// and previous verify, and who verifies elsewhere is shown next as well. It is
// immutable, and belongs to one state of the secret.
type Keyring struct {
	config Config
	// current is nil while the first value is being made; previous and next are
	// nil if there is none.
	current, previous, next *signingKey
	// retire is when previous ends.
	retire time.Time
	// published is what verifiers are shown, during the overlap and after it.
	published [2]KeySet
}

// KeySet is the document of RFC 7517 that verifiers read.
type KeySet struct {
	// Document is nil if there is nothing to show.
	Document []byte
	// ETag names the content, in quotes as HTTP has it.
	ETag string
	// Algorithms are those of the keys, each once.
	Algorithms []string
}

// parsed is a keyring, or why there is none.
type parsed struct {
	ring *Keyring
	err  error
}

// KeyringOf is NewKeyring for a secret of that snapshot. The keys are parsed once, and kept
// as long as the snapshot is.
func KeyringOf(snapshot *rotation.Snapshot, s *rotation.Secret) (*Keyring, error) {
	kept := snapshot.Memo("keyring/"+s.Name, func() any {
		ring, err := NewKeyring(*s)
		return parsed{ring, err}
	}).(parsed)
	return kept.ring, kept.err
}

// NewKeyring parses the keys of s. Its errors show nothing of them.
func NewKeyring(s rotation.Secret) (*Keyring, error) {
	config, err := ReadConfig(s.Config)
	if err != nil {
		return nil, err
	}
	k := &Keyring{config: config}
	for _, stage := range []struct {
		value *rotation.Value
		key   **signingKey
	}{{s.Current, &k.current}, {s.Previous, &k.previous}, {s.Next, &k.next}} {
		if stage.value == nil {
			continue
		}
		if *stage.key, err = parseKey(stage.value.Material); err != nil {
			return nil, fmt.Errorf("read key of secret %s: %w", s.Name, err)
		}
	}
	if s.Previous != nil {
		k.retire = s.Previous.RetireTime
	}
	if k.published[0], err = keySet(k.current, k.next); err != nil {
		return nil, err
	}
	k.published[1], err = keySet(k.current, k.previous, k.next)
	return k, err
}

// Config returns the configuration with its defaults.
func (k *Keyring) Config() Config { return k.config }

// Published returns what verifiers are shown at that time: the public keys of
// current, of previous in its overlap, and of next; never a symmetric one.
func (k *Keyring) Published(now time.Time) KeySet {
	if k.overlaps(now) {
		return k.published[1]
	}
	return k.published[0]
}

// overlaps reports whether previous is still valid. The time decides, and not
// whether the engine has come to retire it.
func (k *Keyring) overlaps(now time.Time) bool { return k.previous != nil && now.Before(k.retire) }

// Sign makes a token of the claims, with the current key.
func (k *Keyring) Sign(claims map[string]any) (token, kid string, err error) {
	if k.current == nil {
		return "", "", secret.ErrNoCurrent
	}
	token, err = k.current.sign(claims)
	if len(token) > maxToken {
		return "", "", rotation.Invalid("claims", "make a token of %d bytes, and the limit is %d: give fewer or shorter ones", len(token), maxToken)
	}
	return token, k.current.kid, err
}

// sign makes a token of the claims.
func (k *signingKey) sign(claims map[string]any) (string, error) {
	token := jwt.NewWithClaims(method(k.algorithm), jwt.MapClaims(claims))
	token.Header["kid"] = k.kid
	signed, err := token.SignedString(k.private)
	if err != nil {
		return "", fmt.Errorf("sign token with key %s", k.kid) // the cause may show claims
	}
	return signed, nil
}

// keySet describes the public keys of those that are not symmetric.
func keySet(keys ...*signingKey) (KeySet, error) {
	var set jose.JSONWebKeySet
	var algorithms []string
	for _, key := range keys {
		if key != nil && !Symmetric(key.algorithm) {
			set.Keys = append(set.Keys, key.jwk(key.public))
			algorithms = append(algorithms, key.algorithm)
		}
	}
	if len(set.Keys) == 0 {
		return KeySet{}, nil
	}
	document, err := json.Marshal(set)
	if err != nil {
		return KeySet{}, fmt.Errorf("encode key set: %w", err)
	}
	sum := sha256.Sum256(document)
	slices.Sort(algorithms)
	return KeySet{
		Document: document, ETag: `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`,
		Algorithms: slices.Compact(algorithms),
	}, nil
}
