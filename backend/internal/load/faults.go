package main

import (
	"context"
	"time"
)

// strike kills the plugin or the active node a moment after a rotation began, at
// a third and at two thirds of the run. What it returns is nil where nothing
// happens.
func (r *result) strike(ctx context.Context, w *world, g *generator, n int) <-chan error {
	var act func(context.Context) error
	what := ""
	switch {
	case r.faults && n == r.rotations/3:
		act, what = w.killPlugin, "plugin killed"
	case r.faults && n == r.rotations*2/3:
		act, what = w.killNode, "active node killed"
	default:
		return nil
	}
	r.marks = append(r.marks, mark{what, time.Since(g.began), time.Since(g.began)})
	say("%s: %s", r.name, what)
	done := make(chan error, 1)
	go func() {
		time.Sleep(20 * time.Millisecond)
		done <- act(ctx)
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
