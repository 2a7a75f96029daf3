package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	issuer        = "smvm-api"
	tokenLifetime = 15 * time.Minute
)

// protect lets a request through that is accepted, within requestTimeout.
func (a *api) protect(accepts func(*http.Request) bool, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		if !accepts(r) {
			a.answer(w, http.StatusUnauthorized, map[string]any{"error": "send a token or an API key that is valid"})
			return
		}
		next(w, r)
	})
}

// tokenOrKey accepts what the caller sends: a token if there is one, else a key.
func (a *api) tokenOrKey(r *http.Request) bool {
	if r.Header.Get("Authorization") != "" {
		return a.token(r)
	}
	return a.apiKey(r)
}

func (a *api) apiKey(r *http.Request) bool {
	return a.source.AcceptsKey(r.Context(), secretAPIKey, r.Header.Get("X-API-Key"))
}

func (a *api) token(r *http.Request) bool {
	text, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		return false
	}
	_, err := jwt.ParseWithClaims(text, &jwt.RegisteredClaims{}, a.source.Keyfunc(secretJWT),
		jwt.WithIssuer(issuer), jwt.WithExpirationRequired())
	return err == nil
}

// issueToken answers a token for whoever has an API key.
func (a *api) issueToken(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	token, err := a.source.SignToken(r.Context(), secretJWT, jwt.RegisteredClaims{
		Issuer: issuer, Subject: "api-key", IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLifetime)),
	})
	if err != nil {
		a.answer(w, http.StatusInternalServerError, map[string]any{"error": "no token could be signed"})
		return
	}
	a.answer(w, http.StatusOK, map[string]any{"token": token, "expires_in": int(tokenLifetime.Seconds())})
}
