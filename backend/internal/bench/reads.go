package main

import (
	"context"
	"fmt"
	"net/http"
)

// measureReads compares what applications do all day.
func measureReads(ctx context.Context, w *world, s settings) ([]row, error) {
	say("reads")
	if err := w.prepareReads(ctx); err != nil {
		return nil, err
	}
	token, key, err := w.credentials(ctx)
	if err != nil {
		return nil, err
	}
	reading := func(name string, paths ...string) figure {
		return rateOf(name, func(ctx context.Context, _ int) error {
			for _, path := range paths {
				if err := w.get(ctx, path); err != nil {
					return err
				}
			}
			return nil
		})
	}
	posting := func(name, path string, data map[string]any) figure {
		return rateOf(name, func(ctx context.Context, _ int) error { return w.post(ctx, path, data) })
	}
	found, err := w.compare(ctx, s.rounds,
		reading("read of `creds/:role` with three secrets", ours+"/creds/read"),
		reading("one `static-creds` read and two KV v2 reads", builtin+"/static-creds/read", keys+"/data/jwt", keys+"/data/api"),
		reading("read of the empty plugin on the framework", nothing+"/framework"),
		reading("read of the empty plugin that bypasses the framework", nothing+"/direct"),
		reading("the same, with a response as large as that of `creds`", nothing+"/large"),
		reading("read of `jwks`", ours+"/jwks/public/jwt"),
		posting("write to `jwt/…/verify`", ours+"/jwt/read/jwt/verify", map[string]any{"token": token}),
		posting("write to `api-key/…/verify`", ours+"/api-key/read/api/verify", map[string]any{"key": key}),
		posting("write to the empty plugin on the framework", nothing+"/framework", map[string]any{}),
	)
	if err != nil {
		return nil, err
	}
	creds, bundle, framework, direct, large, jwks, verifyJWT, verifyKey, posted := found[0], found[1], found[2], found[3], found[4], found[5], found[6], found[7], found[8]
	return []row{
		atLeast("read all secrets of a role in one consistent response", "sets of secrets per second, compared with one `static-creds` read and two KV v2 reads for each set", 1.6, creds, bundle),
		atLeast("read throughput at saturation", "`creds/:role`, compared with an empty plugin on the framework", 1.3, creds, framework),
		atLeast("", "compared with an empty plugin that bypasses the framework", 0.95, creds, direct),
		atLeast("", "compared with an empty plugin that bypasses the framework, with a response of the same size", 0.95, creds, large),
		atLeast("read a key set", "`jwks`, compared with the empty plugin on the framework", 1.2, jwks, framework),
		atLeast("verify a JWT (HS256)", "compared with a write to the empty plugin on the framework", 0.9, verifyJWT, posted),
		atLeast("verify an API key", "compared with the same write", 0.9, verifyKey, posted),
	}, nil
}

// prepareReads gives both sides the same three secrets.
func (w *world) prepareReads(ctx context.Context) error {
	if err := w.createUsers(ctx, "read", 2); err != nil {
		return err
	}
	return w.write(ctx, []step{
		{ours + "/roles/read", map[string]any{"rotation_period": "24h"}},
		{ours + "/secrets/read/db", map[string]any{"type": "database", "connection": "main", "usernames": "read0"}},
		{ours + "/secrets/read/jwt", map[string]any{"type": "jwt"}},
		{ours + "/secrets/read/api", map[string]any{"type": "api_key"}},
		{ours + "/roles/public", map[string]any{"rotation_period": "24h"}},
		{ours + "/secrets/public/jwt", map[string]any{"type": "jwt", "algorithm": "ES256"}},
		{builtin + "/static-roles/read", map[string]any{"db_name": "main", "username": "read1", "rotation_period": "24h"}},
		{keys + "/data/jwt", map[string]any{"data": map[string]any{"algorithm": "HS256", "kid": "a-key-id-of-some-length", "secret": fmt.Sprintf("%088d", 7)}}},
		{keys + "/data/api", map[string]any{"data": map[string]any{"key": fmt.Sprintf("%043d", 7)}}},
	})
}

// credentials returns a token and an API key of the role that is read.
func (w *world) credentials(ctx context.Context) (token, key string, err error) {
	signed, err := w.data(ctx, http.MethodPost, ours+"/jwt/read/jwt/sign", map[string]any{"claims": map[string]any{"sub": "bench"}, "ttl": "1h"})
	if err != nil {
		return "", "", err
	}
	creds, err := w.data(ctx, http.MethodGet, ours+"/creds/read", nil)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprint(signed["token"]), fmt.Sprint(creds["api_key"]), nil
}
