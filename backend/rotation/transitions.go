package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrGone says that there is nothing left to delete: another request has done it.
var ErrGone = errors.New("deleted already")

// SetPolicy changes when a role rotates and which destinations it has. Nothing else of
// what write makes of the draft, a copy of the state, is taken over. A role that was
// deleted is there again. The next rotation is counted from the last one, and never now.
func (r *Role) SetPolicy(ctx context.Context, rec *Record, write func(draft *State) error) error {
	return r.configure(ctx, rec, write, func(s, draft *State) error {
		moved := s.Policy != draft.Policy && !s.Anchor.IsZero()
		s.Policy, s.Destinations, s.Deleted = draft.Policy, draft.Destinations, false
		if !moved {
			return nil
		}
		return r.replan(s, r.engine.Now())
	})
}

// SetCheck changes or removes the check of that name. Nothing else of what write makes of
// the draft, a copy of the state, is taken over.
func (r *Role) SetCheck(ctx context.Context, rec *Record, name string, write func(draft *State) error) error {
	return r.configure(ctx, rec, write, func(s, draft *State) error {
		if s.Checks == nil {
			s.Checks = map[string]json.RawMessage{}
		}
		s.Checks[name] = draft.Checks[name]
		if s.Checks[name] == nil {
			delete(s.Checks, name)
		}
		return nil
	})
}

// SetSecret changes how the secret of that name is made. Nothing else of what write makes
// of the draft, a copy of the state, is taken over. A value that is published in advance
// and does not fit any more is replaced. Write may be called twice.
func (r *Role) SetSecret(ctx context.Context, rec *Record, name string, write func(draft *State) error) error {
	next, err := r.nextAfter(ctx, name, write)
	if err != nil {
		return err
	}
	return r.configure(ctx, rec, write, func(s, draft *State) error {
		s.Secrets[name].Config = draft.Secrets[name].Config
		r.republish(s.Secrets[name], next)
		return nil
	})
}

// configure changes what people have written about a role, and records what of it: take
// takes over what write has made of a copy of the state.
func (r *Role) configure(ctx context.Context, rec *Record, write func(draft *State) error, take func(s, draft *State) error) error {
	return r.change(ctx, rec, func(s *State) error {
		before, draft := s.Clone(), s.Clone()
		if err := write(draft); err != nil {
			return err
		}
		if err := take(s, draft); err != nil {
			return err
		}
		rec.Changes = r.engine.Compare(before, s)
		return nil
	})
}

// SetVersioned replaces what a state holds that is nothing but a configuration, by
// another version of it. What has changed stands in rec.
func (r *Role) SetVersioned(ctx context.Context, rec *Record, write func(*State) (Secret, error)) error {
	return r.change(ctx, rec, func(s *State) error {
		written, err := write(s)
		if err != nil {
			return err
		}
		s.Secrets = map[string]*Secret{written.Name: &written}
		r.newVersion(s)
		return nil
	})
}

// RemoveSecret deletes a secret with its values. What its target accepts stays as it is.
func (r *Role) RemoveSecret(ctx context.Context, rec *Record, name string) error {
	return r.change(ctx, rec, func(s *State) error {
		if s.Secrets[name] == nil {
			return ErrGone
		}
		delete(s.Secrets, name)
		s.unask([]string{name})
		if op := s.InFlight; op != nil && slices.Equal(op.Secrets, []string{name}) {
			s.InFlight = nil
		}
		if len(s.Secrets) == 0 {
			s.Anchor, s.NextRotation = time.Time{}, time.Time{}
		}
		r.newVersion(s)
		return nil
	})
}

// Delete leaves of a state what must not begin again when its name is used again: the
// version and the history. An error of allow keeps the state as it is.
func (r *Role) Delete(ctx context.Context, rec *Record, allow func(*State) error) error {
	return r.change(ctx, rec, func(s *State) error {
		if s.Deleted {
			return ErrGone
		}
		if err := allow(s); err != nil {
			return err
		}
		*s = State{
			Schema: s.Schema, Deleted: true, Version: s.Version, Secrets: map[string]*Secret{},
			History: s.History, Outbox: s.Outbox,
		}
		r.newVersion(s)
		return nil
	})
}

// ReplaceAdministrator stores a connection that was made from the state based: how its
// server is reached, the policy, and the login. A pending value of admin was supplied and
// proven, so it becomes current, and settles whatever was in flight by then. A password
// that may have been set since then is not forgotten: the write is refused.
func (r *Role) ReplaceAdministrator(ctx context.Context, rec *Record, based *State, admin Secret, policy Policy) error {
	return r.change(ctx, rec, func(s *State) error {
		switch {
		case s.Version != based.Version || !slices.Equal(s.UnderWay(), based.UnderWay()):
			return fmt.Errorf("%w: name: connection %s was changed meanwhile; try again", ErrInvalid, r.Name)
		case s.InFlight != nil && admin.Pending == nil:
			return fmt.Errorf("%w: the password of connection %s is being rotated", ErrInFlight, r.Name)
		}
		s.Deleted, s.InFlight, s.Policy = false, nil, policy
		r.newVersion(s)
		if admin.Pending != nil {
			admin.Current = &Value{Material: admin.Pending.Material, Version: s.Version, Created: s.LastRotation, Supplied: true}
			admin.Pending, admin.Previous, admin.Unresolved = nil, nil, nil
		} else if stored := s.Secrets[admin.Name]; stored != nil {
			kept := *stored // as it is by now
			kept.Config = admin.Config
			admin = kept
		}
		s.Secrets = map[string]*Secret{admin.Name: &admin}
		rec.Results[0].To = admin.Current.Version
		return r.replan(s, s.LastRotation)
	})
}

// UnderWay returns the ids of the operations that have not ended, or have left a secret
// unresolved.
func (s *State) UnderWay() (ids []string) {
	if s.InFlight != nil {
		ids = append(ids, s.InFlight.ID)
	}
	for _, name := range s.Names() {
		if u := s.Secrets[name].Unresolved; u != nil {
			ids = append(ids, u.Operation.ID)
		}
	}
	return ids
}

// Note adds a record of what was found or done apart from any operation.
func (r *Role) Note(ctx context.Context, rec *Record) error {
	return r.change(ctx, rec, func(*State) error { return nil })
}

// newVersion is what every change of values makes.
func (r *Role) newVersion(s *State) {
	s.Version++
	s.LastRotation = r.engine.Now().UTC().Truncate(time.Second)
}

// replan works out the next rotation after a change of the policy.
func (r *Role) replan(s *State, now time.Time) error {
	resolved, err := s.Policy.Resolve(r.engine.Settings().Defaults, r.engine.Cron, r.Key)
	if err != nil {
		return err
	}
	if s.Anchor.IsZero() {
		s.Anchor = now
	}
	s.NextRotation = resolved.NextAfter(s.Anchor, now)
	return nil
}
