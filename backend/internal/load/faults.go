package main

import (
	"context"
	"time"
)

// failedOver is how the fault is called in which PostgreSQL fails over.
const failedOver = "PostgreSQL failover"

// fault is what goes wrong a moment after an operation began.
type fault struct {
	what string
	act  func(context.Context) error
}

// faultOf returns what goes wrong in the nth operation of a run: at a third of the run
// the plugin is killed, at a half PostgreSQL fails over, at two thirds Vault does. It is
// nil where nothing happens.
func (r *result) faultOf(s *site, n int) *fault {
	switch {
	case r.faults && n == r.rotations/3:
		return &fault{"plugin killed", s.killPlugin}
	case r.failover && n == r.rotations/2:
		return &fault{failedOver, s.failOver}
	case r.faults && n == r.rotations*2/3:
		return &fault{"active node killed", s.killNode}
	}
	return nil
}

// strike makes it happen. It is over when what strike returns says so, which for a
// failover of PostgreSQL is when all instances serve again.
func (r *result) strike(ctx context.Context, f *fault, g *generator) <-chan error {
	m := &mark{what: f.what, begin: time.Since(g.began)}
	r.marks = append(r.marks, m)
	say("%s: %s", r.name, f.what)
	done := make(chan error, 1)
	go func() {
		time.Sleep(20 * time.Millisecond)
		err := f.act(ctx)
		if f.what == failedOver && err == nil {
			err = g.serves(ctx, 0)
		}
		m.end = time.Since(g.began)
		done <- err
	}()
	return done
}

func (w *world) killPlugin(ctx context.Context) error {
	active, err := w.cluster.Active(ctx)
	if err != nil {
		return err
	}
	return active.KillPlugins()
}

// killNode kills the active node, and starts it again when another is active.
func (w *world) killNode(ctx context.Context) error {
	active, err := w.cluster.Active(ctx)
	if err == nil {
		err = active.Kill()
	}
	if err == nil {
		_, err = w.cluster.ActiveOtherThan(ctx, active)
	}
	if err != nil {
		return err
	}
	return active.Start(ctx)
}
