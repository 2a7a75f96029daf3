package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/xdg-go/scram"
)

// rawSize is how many users the measurement without Vault changes.
const rawSize = 300

// raw is how fast users get a password, and log in with it, when nothing else is
// done, by as many connections as there are clients.
type raw struct {
	w      *world
	admins chan *pgx.Conn
	// writes says that each also has a plugin, which does nothing else, write to
	// Vault's storage what a rotation does.
	writes bool
}

// figure is how many per second do. The administrator's connections are made before
// it and end after it, as those of the engines do.
func (r *raw) figure() figure {
	name := "`ALTER ROLE` and login by pgx"
	if r.writes {
		name += ", and four writes to Vault's storage"
	}
	return figure{name: name, prepare: r.begin, measure: r.measure, finish: r.end}
}

func (r *raw) begin(ctx context.Context) error {
	if err := r.w.ensureRaw(ctx); err != nil {
		return err
	}
	r.admins = make(chan *pgx.Conn, clients)
	for range clients {
		conn, err := pgx.Connect(ctx, r.w.postgres.DSN(builtinAdmin, adminPassword, "postgres"))
		if err != nil {
			return fmt.Errorf("log in as administrator: %w", err)
		}
		r.admins <- conn
	}
	return nil
}

func (r *raw) measure(ctx context.Context) (perSecond float64, times int, err error) {
	began := time.Now()
	err = parallel(0, rawSize, func(i int) error {
		admin := <-r.admins
		defer func() { r.admins <- admin }()
		if err := r.w.alterAndLogIn(ctx, admin, fmt.Sprintf("raw%d", i)); err != nil || !r.writes {
			return err
		}
		return r.w.get(ctx, fmt.Sprintf("%s/writes/%d", nothing, i))
	})
	return rawSize / time.Since(began).Seconds(), rawSize, err
}

func (r *raw) end(ctx context.Context) error {
	for range clients {
		if err := (<-r.admins).Close(ctx); err != nil {
			return fmt.Errorf("log out: %w", err)
		}
	}
	return nil
}

// ensureRaw makes the users once.
func (w *world) ensureRaw(ctx context.Context) error {
	var exist bool
	if err := w.admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'raw0')").Scan(&exist); err != nil || exist {
		return err
	}
	return w.createUsers(ctx, "raw", rawSize)
}

// alterAndLogIn is what anybody has to do: the verifier is computed by the client,
// so that the password is in no log.
func (w *world) alterAndLogIn(ctx context.Context, admin *pgx.Conn, user string) error {
	password := rand.Text()
	if err := setPassword(ctx, admin, user, password); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, w.postgres.DSN(user, password, "postgres"))
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // there is nothing to lose
	_, err = conn.Exec(ctx, "SELECT 1")
	return err
}

// setPassword sends the verifier of a password.
func setPassword(ctx context.Context, admin *pgx.Conn, user, password string) error {
	verifier, err := scramVerifier(password)
	if err == nil {
		_, err = admin.Exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", user, verifier))
	}
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	return nil
}

// scramVerifier is what PostgreSQL stores of a password (RFC 5803), with as many
// rounds as it takes itself.
func scramVerifier(password string) (string, error) {
	client, err := scram.SHA256.NewClientUnprepped("", password, "")
	if err != nil {
		return "", fmt.Errorf("make SCRAM verifier: %w", err)
	}
	salt := rand.Text()[:16]
	keys, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt, Iters: 4096})
	if err != nil {
		return "", fmt.Errorf("make SCRAM verifier: %w", err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$4096:%s$%s:%s", b64([]byte(salt)), b64(keys.StoredKey), b64(keys.ServerKey)), nil
}

// peakPause is how often the connections are counted.
const peakPause = 200 * time.Millisecond

// peak remembers the most connections that PostgreSQL had at the same time.
type peak struct{ admin, all atomic.Int64 }

// watch makes a figure of a figure, and looks at the connections meanwhile.
func (p *peak) watch(w *world, watched figure) figure {
	measure := watched.measure
	watched.measure = func(ctx context.Context) (float64, int, error) {
		conn, err := pgx.Connect(ctx, w.postgres.SuperuserDSN())
		if err != nil {
			return 0, 0, fmt.Errorf("log in to PostgreSQL: %w", err)
		}
		watching, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.run(watching, conn)
		}()
		value, times, err := measure(ctx)
		stop()
		<-done
		_ = conn.Close(ctx)
		return value, times, err
	}
	return watched
}

func (p *peak) run(ctx context.Context, conn *pgx.Conn) {
	for ctx.Err() == nil {
		var admin, all int64
		err := conn.QueryRow(ctx, "SELECT count(*) FILTER (WHERE usename = $1), count(*) FROM pg_stat_activity WHERE application_name = 'smvm'", ourAdmin).Scan(&admin, &all)
		if err != nil {
			return
		}
		p.admin.Store(max(p.admin.Load(), admin))
		p.all.Store(max(p.all.Load(), all))
		time.Sleep(peakPause)
	}
}
