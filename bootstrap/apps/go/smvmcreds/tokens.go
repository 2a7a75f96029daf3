package smvmcreds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// refreshTimeout bounds how long a request may be held up by values it makes
// seem out of date.
const refreshTimeout = 3 * time.Second

// ErrUnknownKey says that a token was signed with a key that is neither the
// current nor the previous one, or with another algorithm than that key's.
var ErrUnknownKey = errors.New("token is of an unknown key")

// Signer signs tokens with keys that it does not hand out. A Vault is one.
type Signer interface {
	// Sign makes a token of the claims, with the current key of a secret.
	Sign(ctx context.Context, secret string, claims jwt.Claims) (string, error)
}

// SignToken signs claims with the key of a secret of type jwt, and names the key in
// the token's header. It does that here if the credentials have what it takes: an
// HMAC key, or the private key of an exportable one. For one refresh after a rotation
// that is the previous key, because other instances may not have read the new one yet.
// If the credentials have no such key, the source's reader has to be a Signer, and ctx
// bounds its work.
func (s *Source) SignToken(ctx context.Context, secret string, claims jwt.Claims) (string, error) {
	c := s.signing(secret)
	method := jwt.GetSigningMethod(c.Value(secret, "algorithm"))
	if method == nil {
		return "", fmt.Errorf("sign token: the credentials have no %s_algorithm that is known", secret)
	}
	key, err := c.signingKey(secret)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	if key == nil {
		return s.signElsewhere(ctx, secret, claims)
	}
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = c.Value(secret, "kid")
	signed, err := token.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}

// signing returns the credentials whose key signs: the confirmed ones, as long as
// the current ones have their key as the previous key. After a rollback that is not
// so: the confirmed ones know the current key, as their previous one.
func (s *Source) signing(secret string) *Credentials {
	current, confirmed := s.Current(), s.confirmed.Load()
	accepted := confirmed.Value(secret, "kid") == current.Value(secret, "previous_kid")
	known := confirmed.Value(secret, "previous_kid") == current.Value(secret, "kid")
	if accepted && !known {
		return confirmed
	}
	return current
}

// signElsewhere has a token signed where the key is.
func (s *Source) signElsewhere(ctx context.Context, secret string, claims jwt.Claims) (string, error) {
	signer, ok := s.reader.(Signer)
	if !ok {
		return "", fmt.Errorf("sign token: the credentials have no %s_private_key, and come from nobody who signs", secret)
	}
	signed, err := signer.Sign(ctx, secret, claims)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}

// Keyfunc finds the key of a token by its kid, for jwt.Parse: the current one,
// or during the overlap the previous one. A kid that is neither makes the source
// read again, because another instance may have seen a rotation first. A token
// is refused if it is signed with another algorithm than that of its key; what
// the claims must be is for the options of jwt.Parse.
func (s *Source) Keyfunc(secret string) jwt.Keyfunc {
	return func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		c := s.Current()
		stage, known := c.stageOf(secret, kid)
		if !known && kid != "" {
			ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
			defer cancel()
			_ = s.Refresh(ctx) // the source has logged it; the key stays unknown
			c = s.Current()
			stage, known = c.stageOf(secret, kid)
		}
		if !known {
			return nil, ErrUnknownKey
		}
		return c.verificationKey(secret, stage, token.Method)
	}
}
