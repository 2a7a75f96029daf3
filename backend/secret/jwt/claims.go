package jwt

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TokenRequest is what an application wants signed.
type TokenRequest struct {
	// Claims are its own; see Claims for those it may not name.
	Claims map[string]any
	// TTL is how long the token is to live; zero means as long as it may.
	TTL time.Duration
	// Identity are the claims that the template made of the caller's identity.
	Identity map[string]any
	// Overlap is that of the role: how long a key verifies after its last token.
	Overlap time.Duration
	Now     time.Time
}

// Claims makes the claims of a token from what the request names, the identity
// of who makes it, and the configuration (RFC 7519 section 4.1): exp, iat, nbf and
// jti are set here, iss and aud are as configured where they are. What may not be
// named is refused, not ignored; the errors wrap rotation.ErrInvalid and show no
// value of a claim.
func (c Config) Claims(r TokenRequest) (claims map[string]any, expires time.Time, err error) {
	if err := c.checkNamed(r); err != nil {
		return nil, expires, err
	}
	ttl, err := c.ttl(r)
	if err != nil {
		return nil, expires, err
	}
	claims = map[string]any{}
	for _, from := range []map[string]any{r.Claims, r.Identity} {
		for name, value := range from {
			claims[name] = value
		}
	}
	if inherits(claims) {
		return nil, expires, rotation.Invalid("claims", "has __proto__, or prototype in constructor, from which JavaScript objects inherit: choose another name")
	}
	if err := c.fix(claims); err != nil {
		return nil, expires, err
	}
	issued := r.Now.UTC().Truncate(time.Second)
	expires = issued.Add(ttl)
	claims["iat"], claims["nbf"], claims["exp"], claims["jti"] = issued.Unix(), issued.Unix(), expires.Unix(), rand.Text()
	return claims, expires, nil
}

// ttl is how long the token lives.
func (c Config) ttl(r TokenRequest) (time.Duration, error) {
	longest := c.Lifetime(r.Overlap)
	switch {
	case r.TTL < 0:
		return 0, rotation.Invalid("ttl", "is negative")
	case r.TTL > r.Overlap:
		return 0, rotation.Invalid("ttl", "is %s, longer than the overlap of %s: the token would outlive its key", rotation.Span(r.TTL), rotation.Span(r.Overlap))
	case r.TTL > longest:
		return 0, rotation.Invalid("ttl", "is %s, and max_ttl is %s", rotation.Span(r.TTL), rotation.Span(longest))
	case r.TTL == 0:
		return longest, nil
	}
	return r.TTL, nil
}

// checkNamed refuses claims that the request may not name. What is denied or made
// here is so under every name that is taken for it; what is allowed, under its own.
func (c Config) checkNamed(r TokenRequest) error {
	names, templated := namesOf(r.Claims), namesOf(r.Identity)
	if err := checkNames("claims", names); err != nil {
		return err
	}
	for _, name := range names {
		switch {
		case name == "exp":
			return rotation.Invalid("claims", "exp follows from ttl: leave it out, and give ttl")
		case slices.Contains(setClaims, name):
			return rotation.Invalid("claims", "the engine sets %s: leave it out", name)
		case alike(templated, name) != "":
			return rotation.Invalid("claims", "libraries take %+q for %q, which claims_template makes from your identity: leave it out", name, alike(templated, name))
		case alike(c.DeniedClaims, name) != "":
			return rotation.Invalid("claims", "libraries take %+q for %q, which is one of denied_claims: leave it out", name, alike(c.DeniedClaims, name))
		case len(c.AllowedClaims) > 0 && !slices.Contains(c.AllowedClaims, name) && !c.fixes(name):
			return rotation.Invalid("claims", "%q is not one of allowed_claims: leave it out", name)
		}
	}
	return nil
}

// fixes reports whether the configuration says what the claim is.
func (c Config) fixes(name string) bool {
	return name == "iss" && c.Issuer != "" || name == "aud" && len(c.Audience) > 0
}

// fix checks the claims that RFC 7519 gives a form, and sets those that the
// configuration fixes.
func (c Config) fix(claims map[string]any) error {
	for _, name := range []string{"iss", "sub"} {
		if value, named := claims[name]; named {
			if _, ok := value.(string); !ok {
				return rotation.Invalid("claims", "%s is not a string (RFC 7519 section 4.1)", name)
			}
		}
	}
	if c.Issuer != "" {
		if value, named := claims["iss"]; named && value != c.Issuer {
			return rotation.Invalid("claims", "iss differs from issuer %q: leave it out", c.Issuer)
		}
		claims["iss"] = c.Issuer
	}
	return c.fixAudience(claims)
}

// fixAudience is fix for aud, which is one string or a list of them.
func (c Config) fixAudience(claims map[string]any) error {
	value, named := claims["aud"]
	if !named {
		switch len(c.Audience) {
		case 0:
		case 1:
			claims["aud"] = c.Audience[0]
		default:
			claims["aud"] = c.Audience
		}
		return nil
	}
	audience, ok := texts(value)
	if !ok {
		return rotation.Invalid("claims", "aud is not a string or a list of strings (RFC 7519 section 4.1.3)")
	}
	for _, one := range audience {
		if len(c.Audience) > 0 && !slices.Contains(c.Audience, one) {
			return rotation.Invalid("claims", "aud has a name that audience does not have: leave it out, or use names of %s", strings.Join(c.Audience, ", "))
		}
	}
	return nil
}

// texts reads one string, or a list of at least one.
func texts(value any) ([]string, bool) {
	if one, ok := value.(string); ok {
		return []string{one}, true
	}
	list, ok := value.([]any)
	var all []string
	for _, element := range list {
		one, isText := element.(string)
		ok = ok && isText
		all = append(all, one)
	}
	return all, ok && len(all) > 0
}

// CheckIdentity refuses a template that makes claims which it may not: those set
// here, those that the configuration fixes otherwise, and those that are taken for
// one that applications may name.
func (c Config) CheckIdentity(made map[string]any) error {
	names := namesOf(made)
	if err := checkNames("claims_template", names); err != nil {
		return err
	}
	for _, name := range names {
		if name == "iss" || name == "aud" || slices.Contains(setClaims, name) {
			return rotation.Invalid("claims_template", "makes %s, which the engine sets: leave it out", name)
		}
		for _, list := range [][]string{c.AllowedClaims, c.DeniedClaims} {
			if other := alike(list, name); other != "" && !slices.Contains(list, name) {
				return rotation.Invalid("claims_template", "makes %+q, which libraries take for %+q of allowed_claims or denied_claims: write both the same", name, other)
			}
		}
	}
	return nil
}

// DecodeClaims reads a JSON object, with its numbers as they are written.
func DecodeClaims(field, text string) (map[string]any, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var claims map[string]any
	err := decoder.Decode(&claims)
	if err == nil {
		err = checkOnce(text)
	}
	switch {
	case errors.Is(err, errTwice):
		return nil, rotation.Invalid(field, "has a name twice in one object: leave one of them out")
	case err != nil || claims == nil:
		return nil, rotation.Invalid(field, `is not one JSON object, such as {"sub":"orders"}`)
	}
	return claims, nil
}

// LongestLife implements secret.Tokens.
func (driver) LongestLife(config json.RawMessage) (field string, longest time.Duration, err error) {
	c, err := ReadConfig(config)
	return "max_ttl", time.Duration(c.MaxTTL) * time.Second, err
}

// testTokenLife is how long a token is valid that is only to try something.
const testTokenLife = time.Minute

// TestToken implements secret.Tokens.
func (driver) TestToken(snapshot *rotation.Snapshot, s *rotation.Secret, now time.Time) (string, error) {
	ring, err := KeyringOf(snapshot, s)
	if err != nil {
		return "", err
	}
	overlap := snapshot.Resolved.Overlap
	claims, _, err := ring.Config().Claims(TokenRequest{
		Claims: map[string]any{}, TTL: min(testTokenLife, ring.Config().Lifetime(overlap)), Overlap: overlap, Now: now,
	})
	if err != nil {
		return "", err
	}
	token, _, err := ring.Sign(claims)
	return token, err
}
