package drift

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// ConnectionMoved has every login of a connection tried where that leads now: those
// that work there are what readers are told next.
func (c *Detector) ConnectionMoved(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweepLocked(name)
}

// misplaced lists the secrets whose readers are to be told another way together with
// that of a login; none if that one's are not.
func (c *Detector) misplaced(one Login) []string {
	s := one.Role.Snapshot()
	names := c.ports.Engine.Misplaced(s.State)
	if !slices.Contains(names, one.Secret) {
		return nil
	}
	return slices.DeleteFunc(names, func(name string) bool {
		config, err := database.ConfigOf(s.Secrets[name])
		return err != nil || config.Connection != one.Connection
	})
}

// notMoved says which readers of a role still get an earlier address, because the server
// at the new one could not be asked; "" if there are none.
func (c *Detector) notMoved(r *rotation.Role) string {
	for _, one := range Logins(r, "") {
		c.mu.Lock()
		var cause error
		if s := c.sweeps[one.Connection]; s != nil {
			cause = s.cause
		}
		c.mu.Unlock()
		if cause != nil && len(c.misplaced(one)) > 0 {
			return fmt.Sprintf("readers of secret %s still get the earlier address, because the engine could not prove their logins at the new one: %v. It goes on to try. If the address is wrong, write the right one to connections/%s", one.Secret, cause, one.Connection)
		}
	}
	return ""
}

// later is nil unless an operation is in the way of trying a login, or its readers are
// to be told another way.
func (c *Detector) later(one Login, s *rotation.Snapshot) error {
	if s.InFlight == nil && len(c.misplaced(one)) == 0 {
		return nil
	}
	return inTheWay(one)
}

// inTheWay says that a login could not be tried now.
func inTheWay(one Login) error { return fmt.Errorf("%w: %s", rotation.ErrInFlight, one.Role.Key) }

// move tells readers the way by which a login was proven, if they are told another:
// of all logins of the role that lead there, or where one of these is refused, of
// this one alone.
func (c *Detector) move(ctx context.Context, one Login) error {
	names := c.misplaced(one)
	if len(names) == 0 {
		return nil
	}
	err := c.start(ctx, one.Role, names)
	if errors.Is(err, rotation.ErrRefused) && len(names) > 1 {
		err = c.start(ctx, one.Role, []string{one.Secret})
	}
	return err
}

func (c *Detector) start(ctx context.Context, r *rotation.Role, names []string) error {
	run, err := r.Start(ctx, rotation.Request{Kind: rotation.KindMove, Trigger: rotation.TriggerConnection, Secrets: names})
	if err != nil {
		return err
	}
	<-run.Done()
	_, err = run.Result()
	return err
}
