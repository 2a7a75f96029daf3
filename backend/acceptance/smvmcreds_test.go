package acceptance

import (
	"errors"
	"io"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/bootstrap/apps/go/smvmcreds"
)

// source opens what a Go service reads its credentials with, over a login of its
// own with the policy that is shipped.
func (e *engine) source(roleID, secretID string) *smvmcreds.Source {
	e.Helper()
	vault := &smvmcreds.Vault{
		Address: e.vault.Address, Path: e.path + "/creds/default",
		Auth: &smvmcreds.AppRole{RoleIDFile: roleID, SecretIDFile: secretID},
	}
	s, err := smvmcreds.Open(e.Context(), vault, smvmcreds.Options{
		MinInterval: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(s.Close)
	return s
}

// signedBy is a token that a service signs, which has to end when it asked for.
func (e *engine) signedBy(s *smvmcreds.Source) string {
	e.Helper()
	began := time.Now()
	ends := jwt.NewNumericDate(began.Add(5 * time.Minute))
	token, err := s.SignToken(e.Context(), "jwt", jwt.RegisteredClaims{Subject: "alice", ExpiresAt: ends})
	took := time.Since(began) // the engine counts from when it signs
	if err != nil {
		e.Fatal(err)
	}
	remember(token)
	parsed, err := jwt.Parse(token, s.Keyfunc("jwt"), jwt.WithSubject("alice"), jwt.WithExpirationRequired())
	if err != nil {
		e.Fatal(err)
	}
	got, err := parsed.Claims.GetExpirationTime()
	if late := got.Sub(ends.Time); err != nil || late < 0 || late > 2*time.Second+took {
		e.Errorf("a token that was to end at %s ends at %s: %v", ends, got, err)
	}
	return token
}

// judged checks what a service and the engine think of a token; stage is empty if
// it is no good.
func (e *engine) judged(s *smvmcreds.Source, what, token, stage string) {
	e.Helper()
	_, err := jwt.Parse(token, s.Keyfunc("jwt"))
	if (err == nil) != (stage != "") || err != nil && !errors.Is(err, smvmcreds.ErrUnknownKey) {
		e.Errorf("a service says to %s: %v", what, err)
	}
	if answer := e.write("jwt/default/jwt/verify", map[string]any{"token": token}); answer["valid"] != (stage != "") || text(answer, "stage") != stage {
		e.Errorf("the engine says to %s: %v", what, answer)
	}
}

// TestTokensOfServices has two services sign and verify through rotations, one of
// which hears of each rotation only by the tokens of the other, with every kind of
// key: HMAC, exportable, and one that stays in the engine.
func TestTokensOfServices(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		for kind, config := range map[string]map[string]any{"": {}, "Exportable": {"exportable": true}} {
			if algorithm == "HS256" && kind != "" {
				continue // such a key is always handed out
			}
			t.Run(algorithm+kind, func(t *testing.T) {
				t.Parallel()
				e := newEngine(t)
				e.write("roles/default", longTerms)
				secret := map[string]any{"type": "jwt", "algorithm": algorithm}
				maps.Copy(secret, config)
				e.write("secrets/default/jwt", secret)
				e.tokensThroughRotations(algorithm == "HS256" || kind != "")
			})
		}
	}
}

// tokensThroughRotations has the services sign by themselves, or the engine for them. By
// itself, one that has just read a new key goes on with the previous one, and one that has
// just started does not.
func (e *engine) tokensThroughRotations(themselves bool) {
	e.Helper()
	roleID, secretID := e.approle()
	signer, verifier := e.source(roleID, secretID), e.source(roleID, secretID)
	first := e.signedBy(signer)
	e.judged(verifier, "the first token", first, "current")
	e.rotated(signer)
	stage := "current"
	if themselves {
		stage = "previous"
	}
	e.judged(verifier, "the token of a service that has just read", e.signedBy(signer), stage)
	second := e.signedBy(e.source(roleID, secretID))
	e.judged(verifier, "the token of the new key", second, "current")
	e.judged(verifier, "the token of the previous key", first, "previous")
	for what, forged := range e.forged(e.creds()) {
		e.judged(verifier, what, forged, "")
	}
	e.write("rotate", map[string]any{"revoke_previous": true})
	e.refresh(signer)
	e.judged(verifier, "the token of the newest key", e.signedBy(signer), "current")
	e.judged(verifier, "the token of the revoked key", second, "")
	e.judged(verifier, "the token of the first key", first, "")
}

// rotated rotates, and has the service read what that made.
func (e *engine) rotated(s *smvmcreds.Source) {
	e.Helper()
	e.write("rotate", nil)
	e.refresh(s)
}

func (e *engine) refresh(s *smvmcreds.Source) {
	e.Helper()
	if err := s.Refresh(e.Context()); err != nil {
		e.Fatal(err)
	}
}

// forged are tokens that name the current key and are signed by another algorithm,
// with what somebody may have of the key.
func (e *engine) forged(creds map[string]any) map[string]string {
	e.Helper()
	forged := map[string]string{}
	sign := func(what string, method jwt.SigningMethod, key any) {
		token := jwt.NewWithClaims(method, jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Minute))})
		token.Header["kid"] = creds["jwt_kid"]
		signed, err := token.SignedString(key)
		if err != nil {
			e.Fatal(err)
		}
		forged[what] = signed
	}
	sign("a token without a signature", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType)
	if secret := text(creds, "jwt_secret"); secret != "" {
		sign("a token of another hash", jwt.SigningMethodHS512, []byte(secret))
	} else {
		sign("a token signed with the public key", jwt.SigningMethodHS256, []byte(text(creds, "jwt_public_key")))
	}
	if private := text(creds, "jwt_private_key"); private != "" && creds["jwt_algorithm"] == "RS256" {
		key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(private))
		if err != nil {
			e.Fatal(err)
		}
		sign("a token of another padding", jwt.SigningMethodPS256, key)
	}
	return forged
}

// TestTokensOfAnotherAlgorithm changes the algorithm: through the overlap both keys
// verify, each by its own.
func TestTokensOfAnotherAlgorithm(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", longTerms)
	e.write("secrets/default/jwt", map[string]any{"type": "jwt"})
	roleID, secretID := e.approle()
	s := e.source(roleID, secretID)
	token := e.signedBy(s)
	for _, algorithm := range []string{"RS256", "PS256", "ES256"} {
		e.write("secrets/default/jwt", map[string]any{"algorithm": algorithm})
		e.rotated(s)
		e.judged(s, "the token from before "+algorithm, token, "previous")
		token = e.signedBy(e.source(roleID, secretID)) // one that starts signs with the new key
		e.judged(s, "the token of "+algorithm, token, "current")
	}
}

// TestSigningIsRefused asks for a token that the secret does not allow.
func TestSigningIsRefused(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", longTerms)
	e.write("secrets/default/jwt", map[string]any{"type": "jwt", "algorithm": "ES256", "denied_claims": "admin"})
	roleID, secretID := e.approle()
	_, err := e.source(roleID, secretID).SignToken(t.Context(), "jwt", jwt.MapClaims{"admin": true})
	var refusal *smvmcreds.StatusError
	if !errors.As(err, &refusal) || refusal.Code != badRequest {
		t.Errorf("it is answered %v", err)
	}
}
