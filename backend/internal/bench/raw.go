package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/xdg-go/scram"
)

// rawSize is how many users the measurement without the engines changes.
const rawSize = 300

// raw is the figure of how many users per second get a password, and log in with it,
// when nothing else is done, by as many connections as there are clients. If it
// writes, each also has a plugin, which does nothing else, write to Vault's storage
// what a rotation does. The administrator's connections are made before it and end
// after it, as those of the engines do.
func (w *world) raw(writes bool) figure {
	name := "`ALTER ROLE` and a login by pgx"
	if writes {
		name += ", and four writes to Vault's storage by the empty plugin"
	}
	admins := make(chan *pgx.Conn, clients)
	return figure{
		name: name,
		prepare: func(ctx context.Context) error {
			for range clients {
				conn, err := pgx.Connect(ctx, w.postgres.DSN(builtinAdmin, adminPassword, "postgres"))
				if err != nil {
					return fmt.Errorf("log in as administrator: %w", err)
				}
				admins <- conn
			}
			return nil
		},
		measure: func(ctx context.Context) (float64, int, error) {
			began := time.Now()
			err := parallel(0, rawSize, func(i int) error {
				admin := <-admins
				defer func() { admins <- admin }()
				if err := w.alterAndLogIn(ctx, admin, fmt.Sprintf("raw%d", i)); err != nil || !writes {
					return err
				}
				return w.get(ctx, fmt.Sprintf("%s/writes/%d", nothing, i))
			})
			return rawSize / time.Since(began).Seconds(), rawSize, err
		},
		finish: func(ctx context.Context) error {
			for range clients {
				_ = (<-admins).Close(ctx)
			}
			return nil
		},
	}
}

// alterAndLogIn is what anybody has to do: the verifier is computed by the client,
// so that the password is in no log.
func (w *world) alterAndLogIn(ctx context.Context, admin *pgx.Conn, user string) error {
	password := rand.Text()
	verifier, err := scramVerifier(password)
	if err == nil {
		_, err = admin.Exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", user, verifier))
	}
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	conn, err := pgx.Connect(ctx, w.postgres.DSN(user, password, "postgres"))
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // there is nothing to lose
	_, err = conn.Exec(ctx, "SELECT 1")
	return err
}

// scramVerifier is what PostgreSQL stores of a password (RFC 5803), with as many
// rounds as it takes itself.
func scramVerifier(password string) (string, error) {
	client, err := scram.SHA256.NewClientUnprepped("", password, "")
	if err != nil {
		return "", err
	}
	salt := rand.Text()[:16]
	keys, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt, Iters: 4096})
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$4096:%s$%s:%s", b64([]byte(salt)), b64(keys.StoredKey), b64(keys.ServerKey)), err
}
