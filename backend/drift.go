package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// drift notices servers that have moved on from what is stored: their passwords
// were changed by hand, or Vault was restored from a snapshot. Nothing in storage
// can tell, so after each start, of which a restore is one, every login that is
// stored is used once. One by one, and slowly: ten thousand of them are not worth
// a busy server at every failover. What is found is told by status and in the log,
// and is not acted upon: a stored password may be one that was revoked since.
type drift struct {
	b *backend

	// moved wakes the looking when a connection was changed.
	moved chan struct{}

	mu    sync.Mutex
	found map[string]map[string]finding // by key of the role and name of the secret
	// changed are the connections whose logins have to be tried again.
	changed map[string]bool
}

func newDrift(b *backend) *drift {
	return &drift{b: b, moved: make(chan struct{}, 1), changed: map[string]bool{}}
}

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

const (
	// checkPause is the time between two logins.
	checkPause = 100 * time.Millisecond
	// checkAgain is how long to wait for servers that could not be asked.
	checkAgain = time.Minute
)

// run tries everything once it is loaded, and what could not be asked again and again.
func (c *drift) run(ctx context.Context) {
	select {
	case <-c.b.scheduler.loaded:
	case <-ctx.Done():
		return
	}
	left := c.round(ctx, c.all(ctx))
	for {
		var again <-chan time.Time
		if len(left) > 0 {
			again = time.After(checkAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.moved:
			left = c.round(ctx, c.movedToo(ctx, left))
		case <-again:
			left = c.round(ctx, left)
		}
	}
}

// all lists the logins that are stored. What can't be read is the scheduler's to
// report.
func (c *drift) all(ctx context.Context) []checked {
	var all []checked
	for _, prefix := range []string{connectionPrefix, rolePrefix} {
		roles, _ := c.b.registry.all(ctx, prefix)
		for _, r := range roles {
			for name, s := range r.Snapshot().Secrets {
				switch s.Type {
				case connectionType:
					all = append(all, checked{r, name, r.Name})
				case databaseType:
					if config, err := databaseConfig(s); err == nil {
						all = append(all, checked{r, name, config.Connection})
					}
				}
			}
		}
	}
	return all
}

// round tries each login, and returns those whose servers could not be asked.
// Where one could not, the others of the same server are not tried.
func (c *drift) round(ctx context.Context, all []checked) (left []checked) {
	silent := map[string]bool{}
	for _, one := range all {
		if silent[one.connection] {
			left = append(left, one)
			continue
		}
		if !pause(ctx, checkPause) {
			return nil
		}
		err := c.check(ctx, one)
		if err != nil {
			left = append(left, one)
			silent[one.connection] = !errors.Is(err, rotation.ErrInFlight)
		}
	}
	return left
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// check tries one login, and where it works has readers told how. An operation that is
// under way, or came in between, uses the values itself, and while it does they may
// well be refused.
func (c *drift) check(ctx context.Context, one checked) error {
	before := one.role.Snapshot()
	s := before.Secrets[one.secret]
	if s == nil || s.Current == nil || before.InFlight != nil {
		return c.later(one)
	}
	refused, err := c.b.engine.Refused(ctx, *s)
	if err != nil {
		return err
	}
	after := one.role.Snapshot()
	now := after.Secrets[one.secret]
	if one.role.Busy() || after.InFlight != nil || now == nil || now.Current != s.Current || now.Previous != s.Previous {
		return c.later(one)
	}
	if len(refused) > 0 {
		c.note(one.role.Key, one.secret, finding{s.Current.Version, refused})
		c.b.log().Error("a server refuses what is stored", "subject", one.role.Key, "secret", one.secret, "refused", refused, "advice", c.advice(one.role))
		return nil
	}
	return c.move(ctx, one)
}

func (c *drift) note(key, secret string, f finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found == nil {
		c.found = map[string]map[string]finding{}
	}
	if c.found[key] == nil {
		c.found[key] = map[string]finding{}
	}
	c.found[key][secret] = f
}

// forget drops what was found about a role: it was repaired, or is right again.
func (c *drift) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.found, key)
}

// advice says what was found about a role and what to do; "" if nothing was.
func (c *drift) advice(r *rotation.Role) string {
	s := r.Snapshot()
	c.mu.Lock()
	defer c.mu.Unlock()
	var refused []string
	for name, f := range c.found[r.Key] {
		if secret := s.Secrets[name]; secret != nil && secret.Current != nil && secret.Current.Version == f.version {
			refused = append(refused, fmt.Sprintf("secret %s, %s", name, strings.Join(f.refused, ", ")))
		}
	}
	if len(refused) == 0 {
		return ""
	}
	slices.Sort(refused)
	return adviceFor(r, refused)
}

// adviceFor names the command for a role whose targets refuse what is stored.
func adviceFor(r *rotation.Role, refused []string) string {
	what := fmt.Sprintf("the server refuses what is stored (%s): it was changed by hand, or Vault was restored from an older snapshot. ", strings.Join(refused, "; "))
	if isConnection(r) {
		return what + fmt.Sprintf("Give the administrator a new password as a superuser of PostgreSQL, and write that to connections/%s", r.Name)
	}
	return what + fmt.Sprintf("Write verify/%s with repair=true to set the stored values again; once applications have read them, write rotate/%s, because one of them may have been revoked since", r.Name, r.Name)
}
