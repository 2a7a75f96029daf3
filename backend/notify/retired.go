package notify

import (
	"cmp"
	"fmt"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// RetiredUse is that somebody had a retired value verified.
type RetiredUse struct {
	// Number is higher for each use of a role.
	Number int
	At     time.Time
	// Secret is the one whose value it was, and Version when that became current.
	Secret  string
	Version int
	// Token says that a token named the key.
	Token bool
	// Actor and Address are of who asked to verify it.
	Actor   rotation.Actor
	Address string
}

// retiredEvents returns the events of the uses of a role's retired values that were not
// sent yet, and that came after the alert was created.
func (d *dispatcher) retiredEvents(r *rotation.Role, at *cursor) ([]Event, error) {
	uses, err := d.ports.RetiredUses(d.ctx, r, at.RetiredUse)
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, use := range uses {
		at.RetiredUse = use.Number
		if use.At.Before(d.config.Created.Truncate(time.Second)) {
			continue
		}
		e := NewEvent(RetiredValueUsed, fmt.Sprintf("%s-%d", r.Key, use.Number), use.message())
		e.Time, e.Version = use.At, use.Version
		events = append(events, e)
	}
	return events, nil
}

// message says what was presented, and who asked: the address is that of the service that
// was given the value, not of who gave it.
func (u RetiredUse) message() string {
	what := fmt.Sprintf("Somebody used a retired value of secret %s, version %d", u.Secret, u.Version)
	if u.Token {
		what = fmt.Sprintf("Somebody used a token that names the retired key of secret %s, version %d; whether this key signed it can't be verified any more", u.Secret, u.Version)
	}
	asked := cmp.Or(rotation.SetApart(u.Actor.DisplayName), "a token without a name")
	if u.Actor.EntityID != "" {
		asked += " (entity " + u.Actor.EntityID + ")"
	}
	return fmt.Sprintf("%s. The engine refused it. %s asked to verify it, from %s", what, asked, cmp.Or(u.Address, "an unknown address"))
}
