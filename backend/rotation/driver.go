package rotation

import (
	"context"
	"errors"
	"fmt"
)

// Fence is what a driver calls before a change takes effect at a target, and as
// early as when the target keeps everybody else from the same change until this one
// has ended: it proves that this node may still decide, by a write to storage. On an
// error the change must not take effect. A node that was paused, and has been
// replaced meanwhile, is stopped here. The target itself must give up a change for
// which nothing more is heard within a few seconds, or the pause could come between
// the fence and the effect.
type Fence func(ctx context.Context) error

// Driver is what a type of secret knows how to do. Every method gets the secret
// as it stands in the role's state and must not change it. Errors never contain
// secret material. A method returns when its context ends.
//
// Set, Undo and Retire are absolute and idempotent: doing one twice leaves the
// target as doing it once, because after a crash nobody knows whether the first
// attempt landed. Their errors wrap ErrUnchanged when it certainly did not.
type Driver interface {
	// Create makes the material of a new value, without any side effect.
	Create(ctx context.Context, s Secret) (Material, error)
	// Set makes the target accept v.
	Set(ctx context.Context, s Secret, v Material, fence Fence) error
	// Test uses v for real. The error wraps ErrRefused when the target answered
	// and refused v; any other error leaves open whether v works.
	Test(ctx context.Context, s Secret, v Material) error
	// Probe asks the target whether it accepts v, and no more: not whether v is
	// good for what Test wants of a new value. Its errors are those of Test.
	Probe(ctx context.Context, s Secret, v Material) error
	// Undo puts the target back to what it accepted before Set(s.Pending),
	// judged by s.Current and s.Previous.
	Undo(ctx context.Context, s Secret, fence Fence) error
	// Retire makes v unusable at the target and proves that it is refused. It
	// never harms s.Current. The error wraps ErrUnproven when only the proof is missing.
	Retire(ctx context.Context, s Secret, v Material, fence Fence) error
	// CutsOver reports whether Set ends the life of s.Current at once. Such
	// secrets are set last, to keep that window short.
	CutsOver(s Secret) bool
}

// Completer is a Driver that keeps with a value what it makes of it for its target, so
// that setting the value again sets the same. Values that were imported, or stored by an
// earlier version, lack that.
type Completer interface {
	Driver
	// Complete returns v with what it lacks: v itself if that is nothing. What v has
	// stays as it is.
	Complete(s Secret, v Material) (Material, error)
}

// Prepublisher is a Driver of values that others verify, and are shown ahead of time.
type Prepublisher interface {
	Driver
	// Publishes reports whether others are shown how to verify the values of s. The
	// value that will follow the current one is then made, and shown to them, one
	// rotation ahead.
	Publishes(s Secret) bool
	// Fits reports whether v, made ahead, is still what Create would make for s.
	Fits(s Secret, v Material) bool
}

// publishes reports whether the values of s are published ahead.
func publishes(d Driver, s Secret) bool {
	p, ok := d.(Prepublisher)
	return ok && p.Publishes(s)
}

// fits reports whether v, published ahead, is still what the next value of s can be.
func fits(d Driver, s Secret, v Material) bool {
	p, ok := d.(Prepublisher)
	return ok && p.Fits(s, v)
}

// Local is a Driver of values that may be at no target, which setting them changes.
type Local interface {
	Driver
	// Local reports whether they are at none.
	Local() bool
}

// Placer is a Driver whose values say where they are used, which may change while
// their targets accept them as before.
type Placer interface {
	Driver
	// Place returns v as a value that is used where those of s are now: v itself if
	// it is one.
	Place(s Secret, v Material) (Material, error)
}

// Store keeps the states and histories of all roles. The key is the role's
// storage key, for example "role/default".
type Store interface {
	// Load returns nil without an error when there is no state under key.
	Load(ctx context.Context, key string) (*State, error)
	// Save writes the state in one atomic step.
	Save(ctx context.Context, key string, s *State) error
	// Append writes one history entry; writing the same entry again is harmless.
	Append(ctx context.Context, key string, e Entry) error
	// Entry returns the history entry with that sequence number, nil if missing.
	Entry(ctx context.Context, key string, sequence int) (*Entry, error)
	// DeleteEntries removes the history entries up to and including sequence.
	DeleteEntries(ctx context.Context, key string, sequence int) error
}

// The errors on which callers branch. Each is wrapped with what it is about.
var (
	// ErrRefused says that a target answered and definitively refused a value,
	// as opposed to not having been reached.
	ErrRefused = errors.New("refused")
	// ErrUnchanged says that a target is as it was: it answered that it will not make
	// a change, or was never asked to let one take effect. Without it, what a failed
	// change has left is not known. It has no text of its own.
	ErrUnchanged error = unchanged{}
	// ErrUnproven says that all was done, but for a proof that was left out; its text
	// says why.
	ErrUnproven = errors.New("not proven")
	// ErrInvalid says that the request itself is wrong and that nothing was
	// changed; its text names the field and the fix.
	ErrInvalid = errors.New("invalid request")
	// ErrInFlight says that another operation of the role is under way.
	ErrInFlight = errors.New("operation in flight")
	// ErrStorage says that Vault's storage refused a read or a write.
	ErrStorage = errors.New("storage")
)

// Invalid is ErrInvalid about a field: its name, what is wrong with the value, and the
// fix.
func Invalid(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrInvalid, field, fmt.Sprintf(format, args...))
}

// Unchanged returns err as one that wraps ErrUnchanged too, and reads the same; nil
// for nil.
func Unchanged(err error) error {
	if err == nil {
		return nil
	}
	return unchanged{err}
}

// unchanged is an error after which its target is as it was.
type unchanged struct{ error }

// Unwrap gives access to what went wrong.
func (u unchanged) Unwrap() error { return u.error }

// Is recognizes ErrUnchanged.
func (u unchanged) Is(target error) bool { return target == ErrUnchanged }
