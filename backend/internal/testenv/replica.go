package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
)

// NewReplica is StartReplica for a test: it fails the test if that fails, and stops the
// server when the test and its subtests are done.
func NewReplica(t testing.TB, primary *Postgres) *Postgres {
	t.Helper()
	pg, err := StartReplica(t.Context(), primary)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, pg.Stop, pg.LogPath)
	return pg
}

// StartReplica starts a hot standby that streams from a primary without TLS, and
// returns when it answers. It has the primary's users, passwords and settings.
func StartReplica(ctx context.Context, primary *Postgres) (*Postgres, error) {
	pg, err := newReplica(ctx, primary)
	if err == nil {
		err = pg.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start replica: %w", err), pg.Stop())
	}
	return pg, nil
}

// newReplica copies the primary. What it returns needs a Stop also when there is an
// error.
func newReplica(ctx context.Context, primary *Postgres) (*Postgres, error) {
	pg, err := placePostgres(ctx, primary.BinDir)
	if err != nil {
		return pg, err
	}
	pg.Password, pg.opts = primary.Password, primary.opts
	if err := pg.makeDirectory("data"); err != nil {
		return pg, err
	}
	copyPrimary := pg.command(ctx, "pg_basebackup", "-D", pg.scratch.path("data"), "-R", "-c", "fast", "--no-sync", "-d", primary.SuperuserDSN())
	if out, err := copyPrimary.CombinedOutput(); err != nil {
		return pg, fmt.Errorf("run pg_basebackup: %w: %s", err, out)
	}
	return pg, pg.configure()
}

// Disconnect makes a replica stop streaming, as when the network between it and its
// primary is gone: what is committed there from now on, it does not have.
func (pg *Postgres) Disconnect(ctx context.Context) error {
	// Nothing listens on port 1.
	elsewhere := (&url.URL{Scheme: "postgres", Host: "127.0.0.1:1"}).String()
	if err := pg.Exec(ctx, "ALTER SYSTEM SET primary_conninfo = '"+elsewhere+"'"); err != nil {
		return err
	}
	if err := pg.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	return pg.awaitTrue(ctx, "the replica to stop streaming", "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
}

// CatchUp waits until a replica has what its primary has committed so far.
func (pg *Postgres) CatchUp(ctx context.Context, primary *Postgres) error {
	var at string
	if err := primary.Ask(ctx, "SELECT pg_current_wal_lsn()::text", &at); err != nil {
		return err
	}
	return pg.awaitTrue(ctx, "the replica to catch up", "SELECT pg_last_wal_replay_lsn() >= '"+at+"'")
}

// Promote makes a primary of a replica, and returns when it is one.
func (pg *Postgres) Promote(ctx context.Context) error {
	if err := pg.Exec(ctx, "SELECT pg_promote()"); err != nil {
		return err
	}
	return pg.awaitTrue(ctx, "the promotion", "SELECT NOT pg_is_in_recovery()")
}

// TakeOver has a replica answer at the address of its primary, which is dead: first as
// the standby that it is, because an address may move before the promotion, and then as
// the primary.
func (pg *Postgres) TakeOver(ctx context.Context, primary *Postgres) error {
	if err := pg.Shutdown(); err != nil {
		return err
	}
	pg.Port = primary.Port
	if err := pg.configure(); err != nil {
		return err
	}
	if err := pg.Start(ctx); err != nil {
		return err
	}
	return pg.Promote(ctx)
}

// awaitTrue waits until the superuser's query answers true.
func (pg *Postgres) awaitTrue(ctx context.Context, what, query string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return Eventually(ctx, what, func(ctx context.Context) error {
		var yes bool
		if err := pg.Ask(ctx, query, &yes); err != nil {
			return err
		}
		if !yes {
			return errors.New("not yet")
		}
		return nil
	})
}

// placePostgres makes the place for a server, which has no data yet. What it returns
// needs a Stop also when there is an error.
func placePostgres(ctx context.Context, bin string) (*Postgres, error) {
	s, err := newScratch(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	pg := &Postgres{
		Host: "127.0.0.1", BinDir: bin,
		LogPath: s.path("postgres.log"), scratch: s,
	}
	if pg.user, err = serverUser(); err != nil {
		return pg, err
	}
	if pg.Port, err = freePort(ctx); err != nil {
		return pg, err
	}
	return pg, pg.makeDirectory("socket")
}

// TryLogin logs in to database postgres, and hangs up.
func (pg *Postgres) TryLogin(ctx context.Context, user, password string) error {
	conn, err := pgx.Connect(ctx, pg.DSN(user, password, "postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
