package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// drift notices servers that have moved on from what is stored: a password was changed
// by hand, a replica that lagged was promoted, or PostgreSQL or Vault was restored. It
// uses the logins that are stored and offered to readers, so that none is refused while
// all is well: all of them after each start; those of a connection, soon, when that was
// changed or leads to another server than before; and all of them for ever, slowly. One
// login is tried at a time. What is refused is told by status, the log, an alert and a
// metric, and set again if the mount's configuration says so.
type drift struct {
	b *backend
	// woken makes run look at what is to be done.
	woken chan struct{}
	// round is where the slow tries are. It belongs to the goroutine of run.
	round round

	mu    sync.Mutex
	found map[string]map[string]finding // by key of the role and name of the secret
	// settled are the versions of secrets that were refused before, and are accepted;
	// zero as long as that is not known, and the alerts want to.
	settled map[secretOf]int
	// sweeps are the connections whose logins are tried soon, by name.
	sweeps map[string]*sweep
	// silent are the connections that could not be asked, and until when the slow tries
	// leave them alone.
	silent map[string]time.Time
	// repairs are those that have to be tried again, by key of the role.
	repairs map[string]retry
	// watched are the connections whose servers are looked at, by name.
	watched map[string]*watch
}

func newDrift(b *backend) *drift {
	return &drift{
		b: b, woken: make(chan struct{}, 1), found: map[string]map[string]finding{}, settled: map[secretOf]int{},
		sweeps: map[string]*sweep{}, silent: map[string]time.Time{}, repairs: map[string]retry{}, watched: map[string]*watch{},
	}
}

// secretOf is a secret of a role, by the role's key.
type secretOf struct{ key, secret string }

// finding is what the server of a secret refused.
type finding struct {
	// version is that of the secret's current value; with another, this is over.
	version int
	refused []string
}

// checked is one login to try.
type checked struct {
	role               *rotation.Role
	secret, connection string
}

// logins lists what is stored of a role for a connection, or for all of them if that
// is empty.
func logins(r *rotation.Role, connection string) []checked {
	var all []checked
	s := r.Snapshot()
	for _, name := range s.Names() {
		one := checked{r, name, r.Name}
		switch s.Secrets[name].Type {
		case connectionType:
		case databaseType:
			config, err := databaseConfig(s.Secrets[name])
			if err != nil {
				continue // who reads it reports that
			}
			one.connection = config.Connection
		default:
			continue
		}
		if connection == "" || connection == one.connection {
			all = append(all, one)
		}
	}
	return all
}

// check tries one login, and where it works has readers told how. While an operation is
// under way its values may well be refused, and what it has proven may have been proven
// to the server before: its role is tried once more when it has ended. Asked is false if
// the server did not answer.
func (c *drift) check(ctx context.Context, one checked) (asked bool, err error) {
	before := one.role.Snapshot()
	s := before.Secrets[one.secret]
	if s == nil || s.Current == nil || s.Unresolved != nil || before.InFlight != nil {
		return true, c.later(one, before)
	}
	refused, err := c.b.engine.Refused(ctx, *s)
	if err != nil {
		return errors.Is(err, secret.ErrUncertain), err // others may show which host is the primary
	}
	after := one.role.Snapshot()
	now := after.Secrets[one.secret]
	if one.role.Busy() || after.InFlight != nil || now == nil || now.Unresolved != nil || now.Current != s.Current || now.Previous != s.Previous {
		return true, inTheWay(one)
	}
	if len(refused) == 0 {
		c.accept(one.role, one.secret, s.Current.Version)
		return true, c.move(ctx, one)
	}
	if c.note(one.role.Key, one.secret, finding{s.Current.Version, refused}) {
		c.b.log().Error("a server refuses what is stored", "subject", one.role.Key, "secret", one.secret, "refused", refused, "advice", c.advice(one.role))
	}
	return true, nil
}

// note keeps what was found, and reports whether it is new.
func (c *drift) note(key, secret string, f finding) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found[key] == nil {
		c.found[key] = map[string]finding{}
	}
	known, ok := c.found[key][secret]
	c.found[key][secret] = f
	delete(c.settled, secretOf{key, secret})
	return !ok || known.version != f.version || !slices.Equal(known.refused, f.refused)
}

// accept drops what was found about a secret: its server accepts what is stored.
func (c *drift) accept(r *rotation.Role, secret string, version int) {
	c.mu.Lock()
	_, refused := c.found[r.Key][secret]
	_, awaited := c.settled[secretOf{r.Key, secret}]
	if refused || awaited {
		c.settled[secretOf{r.Key, secret}] = version
	}
	delete(c.found[r.Key], secret)
	if len(c.found[r.Key]) == 0 {
		delete(c.found, r.Key)
		delete(c.repairs, r.Key)
	}
	c.mu.Unlock()
	if refused || awaited {
		c.b.alerts.Enqueue(r)
	}
}

// forget is accept for some secrets of a role.
func (c *drift) forget(r *rotation.Role, names []string) {
	s := r.Snapshot()
	for _, name := range names {
		if secret := s.Secrets[name]; secret != nil && secret.Current != nil {
			c.accept(r, name, secret.Current.Version)
		}
	}
}

// accepted reports whether what was refused of a secret is known to be accepted by now,
// or is not stored any more. If that is not known, accept will tell the alerts.
func (c *drift) accepted(r *rotation.Role, secret string, version int) bool {
	s := r.Snapshot().Secrets[secret]
	if s == nil || s.Current == nil || s.Current.Version != version {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := secretOf{r.Key, secret}
	if _, known := c.settled[at]; !known {
		c.settled[at] = 0
	}
	return c.settled[at] == version
}

// refused returns what is refused of a role now, by secret.
func (c *drift) refused(r *rotation.Role) map[string]finding {
	s := r.Snapshot()
	c.mu.Lock()
	defer c.mu.Unlock()
	found := maps.Clone(c.found[r.Key])
	maps.DeleteFunc(found, func(name string, f finding) bool {
		secret := s.Secrets[name]
		return secret == nil || secret.Current == nil || secret.Current.Version != f.version
	})
	return found
}

// refusedVersions returns the versions of what is refused of a role now, by secret.
func (c *drift) refusedVersions(r *rotation.Role) map[string]int {
	versions := map[string]int{}
	for name, f := range c.refused(r) {
		versions[name] = f.version
	}
	return versions
}

// advice says what was found about a role and what to do; "" if nothing was.
func (c *drift) advice(r *rotation.Role) string {
	found := c.refused(r)
	var refused []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		refused = append(refused, fmt.Sprintf("secret %s, %s", name, strings.Join(found[name].refused, ", ")))
	}
	if len(refused) == 0 {
		return ""
	}
	return adviceFor(r, refused)
}

// adviceFor names the command for a role whose targets refuse what is stored.
func adviceFor(r *rotation.Role, refused []string) string {
	what := fmt.Sprintf("the server refuses what is stored (%s): it was changed by hand, a server that did not have it yet was promoted, or Vault or the server was restored from an older state. ", strings.Join(refused, "; "))
	if roles.IsConnection(r) {
		return what + fmt.Sprintf("Give the administrator a new password as a superuser of PostgreSQL, and write that to connections/%s", r.Name)
	}
	return what + fmt.Sprintf("Write verify/%s with repair=true to set the stored values again; once applications have read them, write rotate/%s, because one of them may have been revoked since", r.Name, r.Name)
}
