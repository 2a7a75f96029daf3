package secret

import (
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// testTokenLife is how long a token is valid that is only to try something.
const testTokenLife = time.Minute

// SignTestToken signs a token of a minute with a key of type "jwt", as the
// application would, for somebody to try whether it is accepted.
func SignTestToken(v rotation.Material) (string, error) {
	now := time.Now()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(v["algorithm"]), jwt.RegisteredClaims{
		Subject: "smvm", IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(testTokenLife)),
	})
	token.Header["kid"] = v["kid"]
	return token.SignedString([]byte(v["secret"]))
}
