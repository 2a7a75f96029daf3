//go:build failpoints

package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// failpointsVariable names the environment variable with the directory through
// which a test controls the failpoints. Without it there are none.
const failpointsVariable = "SMVM_BREAKPOINTS"

// withFailpoints makes the engine stop, or fail, at the side effects that files
// in the control directory name. A point is <scope>.<what>.<before|after>:
//
//	role-<role>.<kind>-intent, -commit, -end, -other   a write of the state
//	role-<role>.<wait|wait-end|hold>                   one that moves the end of an overlap
//	role-<role>.other                                  any other one
//	role-<role>.append                                 a write to the history
//	<key>.write                                        any write to storage under that key
//	<secret>.<create|set|test|probe|undo|retire|look|terminate>  a step of a driver
//	<secret>.<step>-fence                              the fence within it
//	copy-<role>.publish                                what a destination is given
//	check-<role>.ask                                   what an application is asked
//	alert-<name>.cursor                                the note that events were taken
//
// For a connection, the scope is connection-<name>, and the secret is the user
// name of the administrator. For a "/" in a key there is a "-". A file named as the point stops whoever comes there
// first: it is renamed to <point>.reached, and the process goes on when there is
// a <point>.go, or when what it does is cancelled. While there is a <point>.fail,
// each that comes there fails: "before" without having done it, "after" although
// it is done.
func withFailpoints(e *rotation.Engine) *rotation.Engine {
	dir := os.Getenv(failpointsVariable)
	if dir == "" {
		return e
	}
	b := failpoints{dir}
	e.Store = &breakingStore{Store: e.Store, b: b, known: map[string]*rotation.State{}}
	for name, driver := range e.Drivers {
		e.Drivers[name] = withPoints(driver, b)
	}
	return e
}

// failpoint does what is named, with points around it as above.
func failpoint(ctx context.Context, name string, do func() error) error {
	dir := os.Getenv(failpointsVariable)
	if dir == "" {
		return do()
	}
	return failpoints{dir}.around(ctx, name, do)
}

// failpoints is the control directory.
type failpoints struct{ dir string }

// around does what is named, with a point before and one after it.
func (b failpoints) around(ctx context.Context, name string, do func() error) error {
	if err := b.pass(ctx, name+".before"); err != nil {
		return err
	}
	err := do()
	return errors.Join(err, b.pass(ctx, name+".after"))
}

// pass stops at the point if that is armed, and fails if it is to.
func (b failpoints) pass(ctx context.Context, point string) error {
	path := filepath.Join(b.dir, strings.ReplaceAll(point, "/", "-"))
	if os.Rename(path, path+".reached") == nil {
		for !exists(path + ".go") {
			select {
			case <-ctx.Done():
				return fmt.Errorf("failpoint %s: %w", point, ctx.Err())
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	if exists(path + ".fail") {
		return fmt.Errorf("failpoint %s: %w", point, errInjected)
	}
	return nil
}

// errInjected is the failure that a test asked for.
var errInjected = errors.New("made to fail by a test")

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// breakingStore is a Store with points around its writes.
type breakingStore struct {
	rotation.Store
	b  failpoints
	mu sync.Mutex
	// known is what each key holds, as far as this process has seen.
	known map[string]*rotation.State
}

// Load implements rotation.Store.
func (s *breakingStore) Load(ctx context.Context, key string) (*rotation.State, error) {
	state, err := s.Store.Load(ctx, key)
	if err == nil {
		s.note(key, state)
	}
	return state, err
}

// Save implements rotation.Store.
func (s *breakingStore) Save(ctx context.Context, key string, state *rotation.State) error {
	s.mu.Lock()
	what := write(s.known[key], state)
	s.mu.Unlock()
	return s.b.around(ctx, key+"."+what, func() error {
		err := s.Store.Save(ctx, key, state)
		if err == nil {
			s.note(key, state)
		}
		return err
	})
}

// Append implements rotation.Store.
func (s *breakingStore) Append(ctx context.Context, key string, e rotation.Entry) error {
	return s.b.around(ctx, key+".append", func() error { return s.Store.Append(ctx, key, e) })
}

func (s *breakingStore) note(key string, state *rotation.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[key] = state
}

// write names the write that leads from one state to another.
func write(from, to *rotation.State) string {
	var before *rotation.Operation
	version := 0
	if from != nil {
		before, version = from.InFlight, from.Version
	}
	switch after := to.InFlight; {
	case after != nil && (before == nil || before.ID != after.ID):
		return string(after.Kind) + "-intent"
	case before != nil && after == nil && to.Version > version:
		return string(before.Kind) + "-commit"
	case before != nil && after == nil:
		return string(before.Kind) + "-end"
	case before != nil:
		return string(before.Kind) + "-other"
	}
	return overlapWrite(from, to)
}

// overlapWrite names the write that leads from one state to another beside operations:
// "hold" if a value is kept until applications were asked to refuse it, "wait" if an
// overlap goes on because somebody needs its value, "wait-end" if one no longer does.
func overlapWrite(from, to *rotation.State) string {
	what := "other"
	for name, secret := range to.Secrets {
		if from == nil || from.Secrets[name] == nil || from.Secrets[name].Previous == nil || secret.Previous == nil {
			continue
		}
		switch was, is := from.Secrets[name].Previous, secret.Previous; {
		case !is.DestroyTime.Equal(was.DestroyTime):
			return "hold"
		case is.LookTime.Equal(was.LookTime):
		case !is.LookTime.IsZero():
			what = "wait"
		case what == "other":
			what = "wait-end"
		}
	}
	return what
}

// breakingDriver is a Driver with points around its steps.
type breakingDriver struct {
	rotation.Driver
	b failpoints
}

// subjectOf is the scope of a secret's points.
func subjectOf(s rotation.Secret) string {
	if s.Type == connectionType && s.Current != nil {
		return s.Current.Material["username"]
	}
	return s.Name
}

// fence has points around the fence of a step.
func (d breakingDriver) fence(name string, fence rotation.Fence) rotation.Fence {
	return func(ctx context.Context) error {
		return d.b.around(ctx, name+"-fence", func() error { return fence(ctx) })
	}
}

// Create implements rotation.Driver.
func (d breakingDriver) Create(ctx context.Context, s rotation.Secret) (m rotation.Material, err error) {
	err = d.b.around(ctx, subjectOf(s)+".create", func() error {
		m, err = d.Driver.Create(ctx, s)
		return err
	})
	return m, err
}

// Set implements rotation.Driver.
func (d breakingDriver) Set(ctx context.Context, s rotation.Secret, v rotation.Material, fence rotation.Fence) error {
	name := subjectOf(s) + ".set"
	return d.b.around(ctx, name, func() error { return d.Driver.Set(ctx, s, v, d.fence(name, fence)) })
}

// Test implements rotation.Driver. Made to fail, it is a refusal.
func (d breakingDriver) Test(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	err := d.b.around(ctx, subjectOf(s)+".test", func() error { return d.Driver.Test(ctx, s, v) })
	if errors.Is(err, errInjected) {
		return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	return err
}

// Probe implements rotation.Driver.
func (d breakingDriver) Probe(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	return d.b.around(ctx, subjectOf(s)+".probe", func() error { return d.Driver.Probe(ctx, s, v) })
}

// Undo implements rotation.Driver.
func (d breakingDriver) Undo(ctx context.Context, s rotation.Secret, fence rotation.Fence) error {
	name := subjectOf(s) + ".undo"
	return d.b.around(ctx, name, func() error { return d.Driver.Undo(ctx, s, d.fence(name, fence)) })
}

// Retire implements rotation.Driver.
func (d breakingDriver) Retire(ctx context.Context, s rotation.Secret, v rotation.Material, fence rotation.Fence) error {
	name := subjectOf(s) + ".retire"
	return d.b.around(ctx, name, func() error { return d.Driver.Retire(ctx, s, v, d.fence(name, fence)) })
}
