// Package drift notices servers that refuse what is stored for them, and that other
// servers answer than before. It tries stored logins for ever, tells what is refused,
// and has it set again where the mount's configuration says so.
package drift

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// Ports are what the package needs of others.
type Ports struct {
	// Roles holds the roles and connections in memory.
	Roles Roles
	// Users are those whose passwords roles manage.
	Users Users
	// Engine knows the targets of secrets.
	Engine Engine
	// Identity asks the server of a connection who it is.
	Identity func(ctx context.Context, connection string) (postgres.Identity, error)
	// Settings returns what the mount is configured to do.
	Settings func(context.Context) (Settings, error)
	// Loaded is closed when everything that is stored has been read once.
	Loaded <-chan struct{}
	// Changed is told a role when its server refuses what is stored, and when it accepts
	// that again.
	Changed func(*rotation.Role)
	// Log returns the logger of the mount.
	Log func() hclog.Logger
}

// Roles are the roles and connections in memory.
type Roles interface {
	// Known returns the one of a key, nil if there is none.
	Known(key string) *rotation.Role
	// First returns the one that is better than all others.
	First(better func(r, best *rotation.Role) bool) *rotation.Role
}

// Users are those whose passwords roles manage.
type Users interface {
	// Uses reports whether a role has some at a connection, or at any if that is empty.
	Uses(key, connection string) bool
	// Logins is how many there are.
	Logins() int
	// LoginsOf is how many logins a secret has at most.
	LoginsOf(key, secret string) int
}

// Engine knows the targets of secrets.
type Engine interface {
	// Refused describes what the target of a secret refuses of what readers are given.
	Refused(context.Context, rotation.Secret) ([]string, error)
	// Misplaced lists the secrets whose readers are told another way than the one by
	// which their targets are reached now.
	Misplaced(*rotation.State) []string
}

// Settings are what a mount is configured to do.
type Settings struct {
	// Repair says that what is refused is set again.
	Repair bool
	// Interval is in what time every login is tried once.
	Interval time.Duration
}

// Detector notices servers that have moved on from what is stored: a password was changed
// by hand, a replica that lagged was promoted, or PostgreSQL or Vault was restored. It
// uses the logins that are stored and offered to readers, so that none is refused while
// all is well: all of them after each start; those of a connection, soon, when that was
// changed or leads to another server than before; and all of them for ever, slowly. One
// login is tried at a time. What is refused is told by status, the log, an alert and a
// metric, and set again if the mount's configuration says so.
type Detector struct {
	ports Ports
	// woken makes Run look at what is to be done.
	woken chan struct{}
	// round is where the slow tries are. It belongs to the goroutine of Run.
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

// New returns a Detector that has found nothing yet.
func New(p Ports) *Detector {
	return &Detector{
		ports: p, woken: make(chan struct{}, 1), found: map[string]map[string]finding{}, settled: map[secretOf]int{},
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

// Login is one of those that are stored: of a secret, which leads to a connection.
type Login struct {
	Role               *rotation.Role
	Secret, Connection string
}

// Logins lists what is stored of a role for a connection, or for all of them if that
// is empty.
func Logins(r *rotation.Role, connection string) []Login {
	var all []Login
	s := r.Snapshot()
	for _, name := range s.Names() {
		one := Login{r, name, r.Name}
		switch {
		case roles.IsConnection(r):
		case s.Secrets[name].Type == database.TypeName:
			config, err := database.ConfigOf(s.Secrets[name])
			if err != nil {
				continue // who reads it reports that
			}
			one.Connection = config.Connection
		default:
			continue
		}
		if connection == "" || connection == one.Connection {
			all = append(all, one)
		}
	}
	return all
}

// Check tries one login, and where it works has readers told how. While an operation is
// under way its values may well be refused, and what it has proven may have been proven
// to the server before: its role is tried once more when it has ended. Asked is false if
// the server did not answer.
func (c *Detector) Check(ctx context.Context, one Login) (asked bool, err error) {
	before := one.Role.Snapshot()
	s := before.Secrets[one.Secret]
	if s == nil || s.Current == nil || s.Unresolved != nil || before.InFlight != nil {
		return true, c.later(one, before)
	}
	refused, err := c.ports.Engine.Refused(ctx, *s)
	if err != nil {
		return errors.Is(err, postgres.ErrUncertain), err // others may show which host is the primary
	}
	if len(refused) == 0 {
		if one.Role.Same(before) != nil {
			return true, inTheWay(one)
		}
		c.accept(one.Role, one.Secret, s.Current.Version)
		return true, c.move(ctx, one)
	}
	isNew, err := c.note(one, before, finding{s.Current.Version, refused})
	if err != nil {
		return true, err
	}
	if isNew {
		c.ports.Log().Error("a server refuses a stored value", "subject", one.Role.Key, "secret", one.Secret, "refused", refused, "advice", c.Advice(one.Role))
	}
	return true, nil
}

// note keeps what was found, and reports whether it is new. It keeps nothing of a role that
// is not as it was before: a repair calls Forget, which waits for mu.
func (c *Detector) note(one Login, before *rotation.Snapshot, f finding) (isNew bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one.Role.Same(before) != nil {
		return false, inTheWay(one)
	}
	key, secret := one.Role.Key, one.Secret
	if c.found[key] == nil {
		c.found[key] = map[string]finding{}
	}
	known, ok := c.found[key][secret]
	c.found[key][secret] = f
	delete(c.settled, secretOf{key, secret})
	return !ok || known.version != f.version || !slices.Equal(known.refused, f.refused), nil
}

// accept drops what was found about a secret: its server accepts what is stored.
func (c *Detector) accept(r *rotation.Role, secret string, version int) {
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
		c.ports.Changed(r)
	}
}

// Forget is accept for some secrets of a role.
func (c *Detector) Forget(r *rotation.Role, names []string) {
	s := r.Snapshot()
	for _, name := range names {
		if secret := s.Secrets[name]; secret != nil && secret.Current != nil {
			c.accept(r, name, secret.Current.Version)
		}
	}
}

// Accepted reports whether what was refused of a secret is known to be accepted by now,
// or is not stored any more. If that is not known, accept will tell the alerts.
func (c *Detector) Accepted(r *rotation.Role, secret string, version int) bool {
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
func (c *Detector) refused(r *rotation.Role) map[string]finding {
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

// Refused returns the versions of what is refused of a role now, by secret.
func (c *Detector) Refused(r *rotation.Role) map[string]int {
	versions := map[string]int{}
	for name, f := range c.refused(r) {
		versions[name] = f.version
	}
	return versions
}

// Advice says what was found about a role and what to do; "" if nothing was.
func (c *Detector) Advice(r *rotation.Role) string {
	found := c.refused(r)
	var refused []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		refused = append(refused, fmt.Sprintf("secret %s, %s", name, strings.Join(found[name].refused, ", ")))
	}
	if len(refused) == 0 {
		return c.notMoved(r)
	}
	if lost := c.lost(r); len(lost) > 0 {
		return adviceFor(r, refused, fmt.Sprintf("The server refuses the administrator too, and without it the engine can set no value there. So first read %s, and do what its advice says. Then write", strings.Join(lost, ", ")))
	}
	return AdviceFor(r, refused)
}

// lost lists the connections of a role whose administrators are refused.
func (c *Detector) lost(r *rotation.Role) []string {
	c.mu.Lock()
	keys := slices.Sorted(maps.Keys(c.found))
	c.mu.Unlock()
	var lost []string
	for _, key := range keys {
		name, is := strings.CutPrefix(key, roles.ConnectionPrefix)
		if !is || roles.IsConnection(r) || !c.ports.Users.Uses(r.Key, name) {
			continue
		}
		if administrator := c.ports.Roles.Known(key); administrator != nil && len(c.refused(administrator)) > 0 {
			lost = append(lost, "connections/"+name)
		}
	}
	return lost
}

// AdviceFor names the command for a role whose targets refuse what is stored.
func AdviceFor(r *rotation.Role, refused []string) string { return adviceFor(r, refused, "Write") }

// adviceFor is AdviceFor with what comes before the command.
func adviceFor(r *rotation.Role, refused []string, begin string) string {
	what := fmt.Sprintf("the server refuses stored values (%s): somebody changed them by hand, a standby that did not have them yet was promoted, or Vault or the server was restored from an older state. ", strings.Join(refused, "; "))
	if roles.IsConnection(r) {
		return what + fmt.Sprintf("Or another connection or mount has the same administrator, and rotated its password: then give each of them a user of its own. As a superuser of PostgreSQL, give the administrator a new password, and write it to connections/%s", r.Name)
	}
	return what + fmt.Sprintf("%s verify/%s with repair=true to set the stored values again. When applications have read them, write rotate/%s, because a value that is set again may have been revoked before", begin, r.Name, r.Name)
}
