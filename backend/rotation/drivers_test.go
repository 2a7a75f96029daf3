package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

var _, _ Placer = (*single)(nil), (*alternating)(nil)

// alternating models two database users of which one is idle.
type alternating struct{ w *world }

func (d *alternating) Create(_ context.Context, s Secret) (Material, error) {
	user := "app_a"
	if s.Current != nil && s.Current.Material["username"] == user {
		user = "app_b"
	}
	m := Material{"username": user, "password": d.w.next("secret")}
	return m, d.w.call(s.Name+".create", func() error { return nil })
}

func (d *alternating) Set(ctx context.Context, s Secret, v Material, fence Fence) error {
	return d.w.fenced(ctx, fence, s.Name+".set", func() error { d.w.users[v["username"]] = v["password"]; return nil })
}

func (d *alternating) Test(_ context.Context, s Secret, v Material) error {
	return d.w.call(s.Name+".test", func() error { return d.w.login(v) })
}

func (d *alternating) Probe(_ context.Context, s Secret, v Material) error {
	return d.w.call(s.Name+".probe", func() error { return d.w.login(v) })
}

func (d *alternating) Undo(ctx context.Context, s Secret, fence Fence) error {
	return d.w.fenced(ctx, fence, s.Name+".undo", func() error {
		user := s.Pending.Material["username"]
		d.w.users[user] = ""
		for _, v := range []*Value{s.PreviousAt(d.w.clock), s.Current} {
			if v != nil && v.Material["username"] == user {
				d.w.users[user] = v.Material["password"]
			}
		}
		d.w.watchUndone(s)
		return nil
	})
}

func (d *alternating) Retire(ctx context.Context, s Secret, v Material, fence Fence) error {
	return d.w.fenced(ctx, fence, s.Name+".retire", func() error {
		if s.Current.Material["username"] != v["username"] {
			d.w.users[v["username"]] = ""
		}
		return d.w.refuses(v)
	})
}

func (d *alternating) CutsOver(Secret) bool { return false }

// single models one database user, whose password changes under its readers.
type single struct{ w *world }

func (d *single) Create(_ context.Context, s Secret) (Material, error) {
	m := Material{"username": "app", "password": d.w.next("secret")}
	return m, d.w.call(s.Name+".create", func() error { return nil })
}

func (d *single) Set(ctx context.Context, s Secret, v Material, fence Fence) error {
	return d.w.fenced(ctx, fence, s.Name+".set", func() error { d.w.users["app"] = v["password"]; return nil })
}

func (d *single) Test(_ context.Context, s Secret, v Material) error {
	return d.w.call(s.Name+".test", func() error { return d.w.login(v) })
}

func (d *single) Probe(_ context.Context, s Secret, v Material) error {
	return d.w.call(s.Name+".probe", func() error { return d.w.login(v) })
}

func (d *single) Undo(ctx context.Context, s Secret, fence Fence) error {
	return d.w.fenced(ctx, fence, s.Name+".undo", func() error {
		if s.Current != nil {
			d.w.users["app"] = s.Current.Material["password"]
		}
		return nil
	})
}

func (d *single) Retire(_ context.Context, s Secret, v Material, _ Fence) error {
	return d.w.call(s.Name+".retire", func() error { return d.w.refuses(v) })
}

func (d *single) CutsOver(Secret) bool { return true }

// Place implements Placer.
func (d *single) Place(_ Secret, v Material) (Material, error) { return d.w.placed(v), nil }

// Place implements Placer.
func (d *alternating) Place(_ Secret, v Material) (Material, error) { return d.w.placed(v), nil }

// placed returns v as it is used where the one database is reached now.
func (w *world) placed(v Material) Material {
	if v["place"] == w.place {
		return v
	}
	placed := maps.Clone(v)
	placed["place"] = w.place
	return placed
}

// key models a signing key: it lives in storage only, and whoever has it can use
// it until it is destroyed.
type key struct{ w *world }

func (d *key) Create(_ context.Context, s Secret) (Material, error) {
	m := Material{"secret": d.w.next("secret"), "format": string(s.Config)}
	return m, d.w.call(s.Name+".create", func() error { return nil })
}

func (d *key) Set(_ context.Context, s Secret, _ Material, _ Fence) error {
	return d.w.call(s.Name+".set", func() error { return nil })
}

func (d *key) Test(_ context.Context, s Secret, v Material) error {
	return d.w.call(s.Name+".test", func() error { return d.w.login(v) })
}

func (d *key) Probe(_ context.Context, s Secret, v Material) error {
	return d.w.call(s.Name+".probe", func() error { return d.w.login(v) })
}

func (d *key) Undo(_ context.Context, s Secret, _ Fence) error {
	return d.w.call(s.Name+".undo", func() error { return nil })
}

func (d *key) Retire(_ context.Context, s Secret, v Material, _ Fence) error {
	return d.w.call(s.Name+".retire", func() error { d.w.gone[v["secret"]] = true; return nil })
}

func (d *key) Publishes(Secret) bool { return true }

func (d *key) Fits(s Secret, v Material) bool { return v["format"] == string(s.Config) }

func (d *key) CutsOver(Secret) bool { return false }

// login uses a value for real. The caller holds the lock of the world.
func (w *world) login(v Material) error {
	if user, ok := v["username"]; ok {
		if accepted := w.users[user]; accepted == "" || accepted != v["password"] {
			return fmt.Errorf("%w: password authentication failed for user %q", ErrRefused, user)
		}
		return nil
	}
	if v["secret"] == "" || w.gone[v["secret"]] {
		return fmt.Errorf("%w: unknown key", ErrRefused)
	}
	return nil
}

// refuses proves that a retired value does not work any more.
func (w *world) refuses(v Material) error {
	if w.login(v) == nil {
		return errors.New("the retired value is still accepted")
	}
	return nil
}

// fenced is call for what takes effect at a database, which gives a transaction
// up when it hears nothing for long, as it does of a node that is paused.
func (w *world) fenced(ctx context.Context, fence Fence, name string, effect func() error) error {
	begun := w.pauses
	if err := fence(ctx); err != nil {
		return err
	}
	return w.call(name, func() error {
		if w.pauses != begun {
			return errors.New("the server has ended the transaction")
		}
		return effect()
	})
}
