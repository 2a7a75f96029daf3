package smvmcreds

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// fixed is a reader whose values never change.
type fixed map[string]string

func (f fixed) Read(context.Context, *Credentials) (*Credentials, error) {
	return NewCredentials(1, f), nil
}

// pair makes an Ed25519 key, and encodes both parts as the engine does.
func pair(t *testing.T) (key ed25519.PrivateKey, private, public string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return key, encode("PRIVATE KEY", pkcs8), encode("PUBLIC KEY", pkix)
}

// TestAlgorithmOfTheKey accepts the algorithm of each key, which need not be the
// same for both stages, and no other.
func TestAlgorithmOfTheKey(t *testing.T) {
	key, _, public := pair(t)
	const previous = "the secret of the previous key, which was another kind of key"
	s := open(t, fixed{
		"jwt_algorithm": "EdDSA", "jwt_kid": "new", "jwt_public_key": public,
		"jwt_previous_algorithm": "HS256", "jwt_previous_kid": "old", "jwt_previous_secret": previous,
	})
	for _, c := range []struct {
		kid    string
		method jwt.SigningMethod
		key    any
		good   bool
	}{
		{"new", jwt.SigningMethodEdDSA, key, true},
		{"old", jwt.SigningMethodHS256, []byte(previous), true},
		{"old", jwt.SigningMethodHS512, []byte(previous), false},
		{"old", jwt.SigningMethodEdDSA, key, false},
		{"new", jwt.SigningMethodHS256, []byte(public), false},
		{"new", jwt.SigningMethodHS256, []byte(previous), false},
		{"new", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, false},
	} {
		token := jwt.NewWithClaims(c.method, jwt.RegisteredClaims{Subject: "test"})
		token.Header["kid"] = c.kid
		signed, err := token.SignedString(c.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jwt.Parse(signed, s.Keyfunc("jwt")); (err == nil) != c.good || !c.good && !errors.Is(err, ErrUnknownKey) {
			t.Errorf("a token of the %s key, signed with %s: %v", c.kid, c.method.Alg(), err)
		}
	}
}

// TestSignsWhereTheKeyIs signs here with a private key, and without one only if
// the reader signs.
func TestSignsWhereTheKeyIs(t *testing.T) {
	_, private, public := pair(t)
	values := fixed{"jwt_algorithm": "EdDSA", "jwt_kid": "new", "jwt_public_key": public}
	if _, err := open(t, values).SignToken(t.Context(), "jwt", jwt.MapClaims{}); err == nil {
		t.Error("without a key and without somebody who signs, there is a token")
	}
	values["jwt_private_key"] = private
	s := open(t, values)
	signed, err := s.SignToken(t.Context(), "jwt", jwt.MapClaims{"sub": "test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(signed, s.Keyfunc("jwt")); err != nil {
		t.Error(err)
	}
}

// scarce is a reader that reads a signing key every 20 ms, as many times as it may, and
// then fails.
type scarce struct {
	mu            sync.Mutex
	version, may  int
	key, previous string
}

func (s *scarce) Read(context.Context, *Credentials) (*Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.may == 0 {
		return nil, errors.New("Vault is away")
	}
	s.may--
	values := map[string]string{"jwt_algorithm": "HS256", "jwt_kid": s.key, "jwt_secret": "a secret of the key " + s.key}
	if s.previous != "" {
		values["jwt_previous_kid"], values["jwt_previous_secret"] = s.previous, "a secret of the key "+s.previous
	}
	c := NewCredentials(s.version, values)
	c.TTL = 20 * time.Millisecond
	return c, nil
}

// answers sets what is read, and how often it may be.
func (s *scarce) answers(version int, key, previous string, may int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.key, s.previous, s.may = version, key, previous, may
}

// TestSignsOneRefreshLater takes Vault away: what one instance has just read another
// does not have to know.
func TestSignsOneRefreshLater(t *testing.T) {
	const often = 1_000_000
	reader, other := &scarce{}, &scarce{}
	reader.answers(1, "a", "", 1)
	other.answers(1, "a", "", 1)
	signer, verifier := open(t, reader), open(t, other)
	signsWith := func(kid string) error {
		signed, err := signer.SignToken(t.Context(), "jwt", jwt.RegisteredClaims{Subject: "test"})
		if err != nil {
			return err
		}
		token, err := jwt.Parse(signed, verifier.Keyfunc("jwt"))
		if err == nil && token.Header["kid"] != kid {
			err = fmt.Errorf("it signs with the key %v", token.Header["kid"])
		}
		return err
	}
	reads := func(version, failing int) {
		t.Helper()
		eventually(t, func() error {
			if got := signer.Current().Version; got != version || signer.Failing() < failing {
				return fmt.Errorf("it has version %d, and %d reads have failed", got, signer.Failing())
			}
			return nil
		})
	}
	signs := func(kid string) {
		t.Helper()
		if err := signsWith(kid); err != nil {
			t.Errorf("with the key %s: %v", kid, err)
		}
	}
	reader.answers(2, "b", "a", 1)
	reads(2, 2)
	signs("a")
	reader.answers(2, "b", "a", often)
	other.answers(2, "b", "a", often)
	eventually(t, func() error { return signsWith("b") })
	other.answers(2, "b", "a", 0)
	reader.answers(3, "a", "b", 1) // a rollback: everybody knows that key
	reads(3, 0)
	signs("a")
	other.answers(4, "c", "", often)
	reader.answers(4, "c", "", 1) // revoke_previous
	reads(4, 0)
	signs("c")
}

// eventually waits until check finds nothing wrong.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for err := check(); err != nil; err = check() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestSignRequest leaves to the engine what it sets, and asks for the same end.
func TestSignRequest(t *testing.T) {
	now := time.Unix(1_800_000_000, 999)
	request, err := newSignRequest(jwt.RegisteredClaims{
		Subject: "test", IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute)),
	}, now)
	if err != nil || request.TTL != 60 || len(request.Claims) != 1 || request.Claims["sub"] != "test" {
		t.Errorf("the request is %+v, %v", request, err)
	}
	later := jwt.MapClaims{"nbf": jwt.NewNumericDate(now.Add(time.Hour)), "jti": "mine"}
	if request, err = newSignRequest(later, now); err != nil || request.TTL != 0 || len(request.Claims) != 2 {
		t.Errorf("what the engine must refuse is asked as %+v, %v", request, err)
	}
	for _, claims := range []jwt.Claims{
		jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(now)}, jwt.MapClaims{"exp": "tomorrow"}, jwt.MapClaims(nil),
	} {
		if _, err := newSignRequest(claims, now); err == nil {
			t.Errorf("%v can be asked for", claims)
		}
	}
}

// TestSignPath finds the role in each form of the path.
func TestSignPath(t *testing.T) {
	for path, want := range map[string]string{
		"smvm/creds/orders": "smvm/jwt/orders/key/sign",
		"smvm/creds":        "smvm/jwt/default/key/sign",
		"a/creds/b/creds/c": "a/creds/b/jwt/c/key/sign",
	} {
		if got := (&Vault{Path: path}).signPath("key"); got != want {
			t.Errorf("of %s it is %s", path, got)
		}
	}
}
