package smvmcreds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var _ Signer = (*Vault)(nil)

// signRequest is what jwt/:role/:secret/sign takes.
type signRequest struct {
	Claims map[string]any `json:"claims"`
	// TTL is in seconds; 0 means as long as the token may live.
	TTL int64 `json:"ttl"`
}

// Sign implements Signer: the engine signs, which takes the policy for it. exp
// says how long the token is to live; without it, it lives as long as it may. iat
// and nbf are of now. A claim that the secret does not allow is refused.
func (v *Vault) Sign(ctx context.Context, secret string, claims jwt.Claims) (string, error) {
	request, err := newSignRequest(claims, time.Now())
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return "", errors.New("encode claims")
	}
	var answer struct{ Data struct{ Token string } }
	if err := v.ask(ctx, http.MethodPost, v.signPath(secret), body, &answer); err != nil {
		return "", err
	}
	return answer.Data.Token, nil
}

// signPath is beside the path of the credentials. Without a role in that, it is
// the role default.
func (v *Vault) signPath(secret string) string {
	mount, role := strings.TrimSuffix(v.Path, "/creds"), "default"
	if at := strings.LastIndex(v.Path, "/creds/"); at >= 0 {
		mount, role = v.Path[:at], v.Path[at+len("/creds/"):]
	}
	return mount + "/jwt/" + role + "/" + secret + "/sign"
}

// newSignRequest leaves out of the claims what the engine sets by itself. A nbf
// to come stays, for the engine to refuse: the token would be good before it.
func newSignRequest(claims jwt.Claims, now time.Time) (*signRequest, error) {
	named, err := object(claims)
	if err != nil {
		return nil, err
	}
	request := &signRequest{Claims: named}
	expires, err := claims.GetExpirationTime()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read exp: %w", err)
	case expires != nil && expires.Unix() <= now.Unix():
		return nil, errors.New("exp is not in the future")
	case expires != nil:
		request.TTL = expires.Unix() - now.Unix()
	}
	if begins, err := claims.GetNotBefore(); err == nil && begins != nil && !begins.After(now) {
		delete(named, "nbf")
	}
	delete(named, "exp")
	delete(named, "iat")
	return request, nil
}

// object returns the claims by name, with their numbers as they are written.
func object(claims jwt.Claims) (named map[string]any, err error) {
	text, err := json.Marshal(claims)
	if err != nil {
		return nil, errors.New("encode claims")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&named); err != nil || named == nil {
		return nil, errors.New("encode claims: they are no JSON object")
	}
	return named, nil
}
