package jwt

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Config configures a key that signs JSON Web Tokens, and what may be signed
// with it.
type Config struct {
	// Algorithm is one of Algorithms; empty means DefaultAlgorithm.
	Algorithm string `json:"algorithm,omitempty"`
	// KeyBits is the size of RSA keys, 2048, 3072 or 4096; zero means 2048.
	KeyBits int `json:"key_bits,omitempty"`
	// Exportable lets applications read the private key.
	Exportable bool `json:"exportable,omitempty"`
	// Issuer is the claim iss of every token that is signed, and that every token
	// must have that is verified. Empty leaves it to the application.
	Issuer string `json:"issuer,omitempty"`
	// Audience is the claim aud of tokens that are signed, unless they name some of
	// it; what is verified must name one of it. Empty leaves it to the application.
	Audience []string `json:"audience,omitempty"`
	// MaxTTL is how many seconds a token lives at most, and if it names no less;
	// zero means DefaultMaxTTL, or the overlap if that is less.
	MaxTTL int `json:"max_ttl,omitempty"`
	// AllowedClaims are those that applications may name; empty means all but
	// those that are set here.
	AllowedClaims []string `json:"allowed_claims,omitempty"`
	// DeniedClaims are those that applications may not name.
	DeniedClaims []string `json:"denied_claims,omitempty"`
	// ClaimsTemplate makes claims from the identity of who asks for a token.
	ClaimsTemplate string `json:"claims_template,omitempty"`
}

// Schema implements secret.Type.
func (driver) Schema() secret.Schema {
	return secret.Schema{
		Settings: []secret.Field{
			{Name: "algorithm", Help: "algorithm of the keys: HS256 (the default), HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, or EdDSA (or Ed25519, its other name)."},
			{Name: "key_bits", Kind: secret.Number, Help: "size of RSA keys: 2048 (the default), 3072 or 4096; 0 for the default."},
			{Name: "exportable", Kind: secret.Switch, Help: "whether creds returns the private key, for applications that sign tokens themselves instead of with jwt/<role>/<secret>/sign."},
			{Name: "issuer", Help: "the claim iss of every token. If issuer is a URL, the engine serves an OpenID Connect discovery document. Use the URL of jwks/<role>/<secret>, because clients look for the document below the issuer."},
			{Name: "audience", Kind: secret.Names, Help: "the claim aud of every token. A request to sign may choose some of these names."},
			{Name: "max_ttl", Kind: secret.Seconds, Help: "longest ttl of a token, and the ttl if the request to sign sets none; 1 h by default, never longer than the overlap."},
			{Name: "allowed_claims", Kind: secret.Names, Help: "the claims that a request to sign may contain, exactly as written here; all by default."},
			{Name: "denied_claims", Kind: secret.Names, Help: "the claims that a request to sign must not contain. This includes names that some libraries treat as equal, such as Sub for sub."},
			{Name: "claims_template", Help: `JSON object of claims that the engine adds from the caller's identity, in the template language of Vault's identity tokens, such as {"sub": {{identity.entity.name}}}.`},
		},
		Imports: []secret.Field{
			{Name: "secret", Kind: secret.Hidden, Help: "HMAC key to import. The bytes of this text are the key."},
			{Name: "private_key", Kind: secret.Hidden, Help: "private key to import, as PEM (PKCS #8, PKCS #1, SEC 1) or as JWK."},
		},
		Answers: []secret.Answer{
			{Name: "algorithm", Help: "algorithm of the current key."},
			{Name: "kid", Help: "id of the current key, as in the header of its tokens."},
			{Name: "secret", Help: "the current HMAC key; only with HS256, HS384 and HS512. The bytes of this text are the key."},
			{Name: "public_key", Help: "the current public key (PEM); not with HS256, HS384 and HS512."},
			{Name: "public_jwk", Help: "the current public key as JWK; not with HS256, HS384 and HS512."},
			{Name: "private_key", Help: "the current private key (PEM); only with exportable."},
			{Name: "private_jwk", Help: "the current private key as JWK; only with exportable."},
			{Name: "previous_algorithm", Help: "algorithm of the previous key; only during its overlap."},
			{Name: "previous_kid", Help: "id of the previous key; only during its overlap."},
			{Name: "previous_secret", Help: "the previous HMAC key, to verify tokens; only during its overlap."},
			{Name: "previous_public_key", Help: "the previous public key (PEM), to verify tokens; only during its overlap."},
		},
	}
}

// Normalize implements secret.Type.
func (driver) Normalize(config json.RawMessage) (json.RawMessage, error) {
	return secret.Rewrite(config, func(c *Config) { c.Algorithm = AlgorithmName(cmp.Or(c.Algorithm, DefaultAlgorithm)) })
}

// ImportField implements secret.Type: an HMAC has a secret, and the others a private key.
func (driver) ImportField(config json.RawMessage, named func(string) bool) (string, error) {
	c, err := ReadConfig(config)
	if err != nil {
		return "", err
	}
	right, wrong := "private_key", "secret"
	if Symmetric(c.Algorithm) {
		right, wrong = wrong, right
	}
	if named(wrong) {
		return "", rotation.Invalid(wrong, "is not for keys of %s: give the key in %s, or set algorithm to the one of the key", c.Algorithm, right)
	}
	return right, nil
}

// DefaultMaxTTL is how long tokens live at most where nothing else is said.
const DefaultMaxTTL = time.Hour

// setClaims are the claims that are never an application's to say.
var setClaims = []string{"exp", "iat", "jti", "nbf"}

// maxIssuer bounds an issuer and an audience, in bytes.
const maxIssuer = 1024

// Lifetime is how long a token lives at most: never longer than the key that
// verifies it, which is the overlap.
func (c Config) Lifetime(overlap time.Duration) time.Duration {
	if c.MaxTTL == 0 {
		return min(DefaultMaxTTL, overlap)
	}
	return min(time.Duration(c.MaxTTL)*time.Second, overlap)
}

// ReadConfig returns a stored configuration with its defaults, checked.
func ReadConfig(config json.RawMessage) (Config, error) {
	c, err := input.Decode[Config](config)
	if err != nil {
		return c, err
	}
	if c.Algorithm == "" {
		c.Algorithm = DefaultAlgorithm
	}
	c.Algorithm = AlgorithmName(c.Algorithm)
	if err := checkAlgorithm(c.Algorithm, c.KeyBits); err != nil {
		return c, err
	}
	if isRSA(c.Algorithm) && c.KeyBits == 0 {
		c.KeyBits = defaultKeyBits
	}
	return c, c.checkLimits()
}

// checkLimits checks what restricts tokens.
func (c Config) checkLimits() error {
	if c.MaxTTL < 0 {
		return rotation.Invalid("max_ttl", "is %d; it must be more than zero", c.MaxTTL)
	}
	if c.Issuer != "" {
		if err := input.CheckPrintable("issuer", c.Issuer, maxIssuer); err != nil {
			return err
		}
	}
	for _, audience := range c.Audience {
		if err := input.CheckPrintable("audience", audience, maxIssuer); err != nil {
			return err
		}
	}
	for _, claim := range c.AllowedClaims {
		if slices.Contains(setClaims, claim) {
			return rotation.Invalid("allowed_claims", "has %s, which the engine sets: leave it out", claim)
		}
		if slices.Contains(c.DeniedClaims, claim) {
			return rotation.Invalid("denied_claims", "has %q, which allowed_claims has too: leave it out of one", claim)
		}
	}
	return nil
}

// checkClaimNames refuses names in allowed_claims and denied_claims that are taken
// for each other, or for a registered claim. A configuration that was stored before
// this was checked is still read.
func (c Config) checkClaimNames() error {
	if err := checkNames("allowed_claims", c.AllowedClaims); err != nil {
		return err
	}
	if err := checkNames("denied_claims", c.DeniedClaims); err != nil {
		return err
	}
	for _, name := range c.AllowedClaims {
		if denied := alike(c.DeniedClaims, name); denied != "" {
			return rotation.Invalid("denied_claims", "has %+q, which libraries take for %+q of allowed_claims: leave it out of one", denied, name)
		}
	}
	return nil
}
