package database

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// life is that of a secret: it is created, imported, tried, rotated, taken back, drained,
// retired.
func (a *ambush) life(name string, c Config) {
	a.T.Helper()
	d, s := a.database(c)
	s.Current = a.Value(a.applied(name, d, s))
	imported, err := d.Import(s, s.Current.Material["password"])
	if err == nil && imported["username"] == s.Current.Material["username"] {
		err = d.Test(a.T.Context(), s, imported)
	}
	a.unharmed(name+": import", err)
	next, err := d.Create(a.T.Context(), s)
	a.unharmed(name+": make a value", err)
	_, err = d.Preflight(a.T.Context(), s, next)
	a.unharmed(name+": dry run", err)
	_, err = a.Postgres.Started(a.T.Context(), "main")
	a.unharmed(name+": ask when the server was started", err)
	a.inspected(name, d, s)
	session := a.open(s.Current.Material["username"], s.Current.Material["password"])
	s.Pending = a.Value(next)
	a.unharmed(name+": rotate", d.Set(a.T.Context(), s, next, conformance.Unfenced))
	a.unharmed(name+": take back", d.Undo(a.T.Context(), s, conformance.Unfenced))
	a.unharmed(name+": probe", d.Probe(a.T.Context(), s, s.Current.Material))
	s.Previous, s.Current, s.Pending = s.Current, a.Value(a.applied(name, d, s)), nil
	s.Previous.Replaced, s.Previous.RetireTime = time.Now(), time.Now().Add(time.Hour)
	a.drained(name, d, s, c.OnOverlapEnd == "terminate")
	_ = session.Close(context.Background())
	a.unharmed(name+": retire", d.Retire(a.T.Context(), s, s.Previous.Material, conformance.Unfenced))
	s.Previous = nil
	_, err = d.Verify(a.T.Context(), s)
	a.unharmed(name+": verify", err)
}

// applied makes a value, sets it and logs in with it.
func (a *ambush) applied(name string, d *driver, s rotation.Secret) rotation.Material {
	a.T.Helper()
	v, err := d.Create(a.T.Context(), s)
	expect.OK(a.T, err)
	*a.passwords = append(*a.passwords, v["password"])
	a.unharmed(name+": set", d.Set(a.T.Context(), s, v, conformance.Unfenced))
	a.unharmed(name+": test", d.Test(a.T.Context(), s, v))
	return v
}

func (a *ambush) inspected(name string, d *driver, s rotation.Secret) {
	a.T.Helper()
	found := d.Inspect(a.T.Context(), s, preflight.Subject{Mount: "smvm/", Role: "r", Until: time.Now()})
	a.unharmed(name+": inspect", nil)
	if !slices.Contains(found.Passed(), "database.inspected") || len(found.With(preflight.Error)) > 0 {
		a.T.Errorf("%s: inspect found %+v", name, found.Open())
	}
}

// open is a session of the application that it goes on using.
func (a *ambush) open(username, password string) *pgx.Conn {
	a.T.Helper()
	config, err := pgx.ParseConfig(a.PG.DSN("x", "x", "x"))
	expect.OK(a.T, err)
	config.User, config.Password, config.Database = username, password, a.hostile.Database
	conn, err := pgx.ConnectConfig(a.T.Context(), config)
	expect.OK(a.T, err)
	a.T.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (a *ambush) drained(name string, d *driver, s rotation.Secret, terminates bool) {
	a.T.Helper()
	counted, err := a.Postgres.Sessions(a.T.Context(), "main", []string{s.Previous.Material["username"]})
	if err == nil && counted[s.Previous.Material["username"]].Count == 0 {
		err = errors.New("the session is not seen")
	}
	a.unharmed(name+": who uses it", err)
	n, err := d.Sessions(a.T.Context(), s)
	if err == nil && n == 0 {
		err = errors.New("the session is not seen")
	}
	a.unharmed(name+": wait", err)
	if !terminates {
		return
	}
	n, err = d.Terminate(a.T.Context(), s, conformance.Unfenced)
	if err == nil && n == 0 {
		err = errors.New("no session was ended")
	}
	a.unharmed(name+": terminate", err)
}
