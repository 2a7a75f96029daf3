package jwt

import (
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Leeway is by how much the clocks of those who sign and verify may differ. It
// applies to the times in tokens, and not to the life of keys.
const Leeway = time.Minute

// Verified is what was found out about a token.
type Verified struct {
	// Claims are those of a valid token, nil if it is not valid.
	Claims map[string]any
	// Stage and KID tell which key has signed the token, also if it is refused for
	// another reason; empty if none has.
	Stage, KID string
	// Named is the id of the key that the token names, if that is none whose tokens are
	// accepted. Nothing proves that this key has signed it.
	Named string
	// Refusal says why the token is not valid, without showing anything of it;
	// empty for a valid one.
	Refusal string
}

// Valid reports whether the token is to be accepted.
func (v Verified) Valid() bool { return v.Refusal == "" }

// staged is a key and the stage that it is in.
type staged struct {
	*signingKey
	stage string
}

// accepted are the keys whose tokens are accepted at that time. Nobody signs with
// next, so nobody may have signed with it.
func (k *Keyring) accepted(now time.Time) []staged {
	var keys []staged
	if k.current != nil {
		keys = append(keys, staged{k.current, secret.StageCurrent})
	}
	if k.overlaps(now) {
		keys = append(keys, staged{k.previous, secret.StagePrevious})
	}
	return keys
}

// Verify judges a token at that time: its signature by a key that is current or
// in its overlap, with the algorithm of that key and no other, and then the claims
// that limit it, where the configuration fixes them.
func (k *Keyring) Verify(token string, now time.Time) Verified {
	algorithm, kid, refusal := readHeader(token)
	if refusal != "" {
		return Verified{Refusal: refusal}
	}
	refusal = refusedKID
	for _, key := range k.accepted(now) {
		if kid != nil && *kid != key.kid {
			continue
		}
		if AlgorithmName(algorithm) != key.algorithm {
			refusal = refusedAlgorithm
			continue
		}
		claims, err := k.parse(token, key, now)
		if errors.Is(err, jwt.ErrTokenSignatureInvalid) {
			refusal = refusedSignature
			continue
		}
		found := Verified{Stage: key.stage, KID: key.kid, Refusal: reason(err)}
		if err == nil {
			found.Refusal = k.unclear(token, claims)
		}
		if found.Valid() {
			found.Claims = claims
		}
		return found
	}
	if kid != nil && refusal == refusedKID {
		return Verified{Refusal: refusal, Named: *kid}
	}
	return Verified{Refusal: refusal}
}

// Why tokens are refused. Nothing here is taken from the token.
const (
	refusedForm      = "it is not a JSON Web Token in compact form"
	refusedSize      = "it is longer than 64 KiB"
	refusedCritical  = "its header has crit, which names extensions, and the engine supports none"
	refusedKID       = "its kid is not that of the current key, or of a previous one in its overlap"
	refusedAlgorithm = "its alg is not the algorithm of the key"
	refusedSignature = "its signature does not verify"
	refusedTwice     = "an object in it has a name twice, and libraries disagree about which one counts"
	refusedNames     = "it has too many claims, or a name that libraries take for another claim of it, for a registered one, for one of denied_claims, or for a property that objects inherit"
)

// compact is the form of a token: three parts in base64url. It is checked because
// decoders pass over line breaks, and the same token is to have one form.
var compact = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$`)

// readHeader returns alg and kid of a token, unverified, or why it is refused.
func readHeader(token string) (algorithm string, kid *string, refusal string) {
	switch {
	case len(token) > maxToken:
		return "", nil, refusedSize
	case !compact.MatchString(token):
		return "", nil, refusedForm
	}
	parsed, _, err := jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithJSONNumber()).ParseUnverified(token, jwt.MapClaims{})
	if parsed == nil || err != nil && !errors.Is(err, jwt.ErrTokenUnverifiable) {
		return "", nil, refusedForm
	}
	if _, has := parsed.Header["crit"]; has {
		return "", nil, refusedCritical
	}
	algorithm, _ = parsed.Header["alg"].(string)
	if named, has := parsed.Header["kid"]; has {
		text, ok := named.(string)
		if !ok {
			return "", nil, refusedForm
		}
		kid = &text
	}
	return algorithm, kid, ""
}

// parse verifies a token by one key, and the claims that limit it.
func (k *Keyring) parse(token string, key staged, now time.Time) (jwt.MapClaims, error) {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{key.algorithm}), jwt.WithStrictDecoding(), jwt.WithJSONNumber(), jwt.WithLeeway(Leeway),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(func() time.Time { return now }),
	}
	if k.config.Issuer != "" {
		options = append(options, jwt.WithIssuer(k.config.Issuer))
	}
	if len(k.config.Audience) > 0 {
		options = append(options, jwt.WithAudience(k.config.Audience...))
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return key.public, nil }, options...)
	return claims, err
}

// unclear says why the claims of a verified token are not the same to everybody who
// reads it; empty if they are.
func (k *Keyring) unclear(token string, claims jwt.MapClaims) string {
	for _, part := range strings.Split(token, ".")[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || checkOnce(string(text)) != nil {
			return refusedTwice
		}
	}
	if k.config.ambiguous(claims) {
		return refusedNames
	}
	return ""
}

// reason says in words of its own why claims are refused: those of the library
// show parts of the token.
func reason(err error) string {
	if err == nil {
		return ""
	}
	at := slices.IndexFunc(reasons, func(r claimRefusal) bool { return errors.Is(err, r.err) })
	if at < 0 {
		return refusedForm
	}
	return reasons[at].text
}

type claimRefusal struct {
	err  error
	text string
}

// reasons go from the one that outweighs the others to the least.
var reasons = []claimRefusal{
	{jwt.ErrInvalidType, "one of its claims exp, nbf, iat, iss and aud is of the wrong type"},
	{jwt.ErrTokenExpired, "it has expired (exp)"},
	{jwt.ErrTokenNotValidYet, "it is not valid yet (nbf)"},
	{jwt.ErrTokenUsedBeforeIssued, "it was issued in the future (iat)"},
	{jwt.ErrTokenInvalidIssuer, "its issuer is not that of the secret (iss)"},
	{jwt.ErrTokenInvalidAudience, "it is for another audience (aud)"},
	{jwt.ErrTokenRequiredClaimMissing, "it lacks exp, or a claim that the configuration fixes (iss, aud)"},
}
