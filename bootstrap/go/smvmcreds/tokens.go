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
// current nor the previous one.
var ErrUnknownKey = errors.New("token is of an unknown key")

// SignToken signs claims with the current key of a secret of type jwt, and names
// the key in the token's header.
func (s *Source) SignToken(secret string, claims jwt.Claims) (string, error) {
	c := s.Current()
	method := jwt.GetSigningMethod(c.Value(secret, "algorithm"))
	if method == nil {
		return "", fmt.Errorf("sign token: the credentials have no %s_algorithm that is known", secret)
	}
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = c.Value(secret, "kid")
	signed, err := token.SignedString([]byte(c.Value(secret, "secret")))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}

// Keyfunc finds the key of a token by its kid, for jwt.Parse: the current one,
// or during the overlap the previous one. A kid that is neither makes the source
// read again, because another instance may have seen a rotation first. Tokens
// that are not signed by HMAC are refused; what the claims must be is for the
// options of jwt.Parse.
func (s *Source) Keyfunc(secret string) jwt.Keyfunc {
	return func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		if _, hmac := token.Method.(*jwt.SigningMethodHMAC); !hmac || kid == "" {
			return nil, ErrUnknownKey
		}
		if key := s.Current().verificationKey(secret, kid); key != nil {
			return key, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
		defer cancel()
		_ = s.Refresh(ctx) // the source has logged it; the key stays unknown
		if key := s.Current().verificationKey(secret, kid); key != nil {
			return key, nil
		}
		return nil, ErrUnknownKey
	}
}

// verificationKey returns the key with that id; nil if there is none.
func (c *Credentials) verificationKey(secret, kid string) []byte {
	for _, stage := range []string{"", "previous_"} {
		key := c.Value(secret, stage+"secret")
		if key != "" && kid == c.Value(secret, stage+"kid") {
			return []byte(key)
		}
	}
	return nil
}
