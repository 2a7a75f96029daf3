package rotation

import (
	"context"
	"errors"
)

// Looker is a Driver whose targets tell, in a moment, what would make Set or Test of
// a value fail.
type Looker interface {
	Driver
	// Look asks the target, and changes nothing. An error that wraps ErrInvalid says
	// what keeps v from being set and used, and how to mend it; any other, that the
	// target could not be asked.
	Look(ctx context.Context, s Secret, v Material) error
}

// look asks all targets before any is touched, so that what is known to fail changes
// nothing. All that has to be mended is told together.
func (run *Run) look(ctx context.Context) error {
	if run.op.Kind == KindImport {
		return nil // its target is not changed
	}
	var found error
	for _, name := range run.targets {
		err := run.lookAt(ctx, run.secret(name), run.pending[name].Material)
		found = errors.Join(found, err)
		if err != nil && !errors.Is(err, ErrInvalid) {
			break // the next one may make us wait as long
		}
	}
	return found
}

// lookAt asks the target of one secret about v.
func (run *Run) lookAt(ctx context.Context, secret Secret, v Material) error {
	driver, ok := run.driver(secret).(Looker)
	if !ok {
		return nil
	}
	return run.step(ctx, secret.Name, "look", func(ctx context.Context) error { return driver.Look(ctx, secret, v) })
}
