// Package tripwire recognizes values by what is kept of them: those that were retired and
// that somebody presents again, and those that somebody reports as leaked.
//
// Of a value that a role gives up, its digests stay for a while, and of a key that signs
// tokens its id. They are written before the value is destroyed, so that a crash between
// the two loses none; until then the value is recognized by itself. They have an entry of
// storage of their own, with pages, because that of the role is written at each step of an
// operation.
package tripwire

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Prefix is what the keys of the stored entries begin with; then comes the key of the role.
const Prefix = "retired/"

// MaxValues is how many retired values a role keeps at most. The longest retired go first, a page at a time.
const MaxValues = 1000

// Store is a key-value storage.
type Store interface {
	// ReadRaw returns what is under a key, nil if that is nothing.
	ReadRaw(ctx context.Context, key string) ([]byte, error)
	// Write stores a value as JSON.
	Write(ctx context.Context, key string, value any) error
	// List returns the names under a prefix.
	List(ctx context.Context, prefix string) ([]string, error)
	Delete(ctx context.Context, key string) error
}

// Ports is what the package needs of others.
type Ports struct {
	Store Store
	// Roles holds the roles and connections.
	Roles interface {
		Readable(ctx context.Context, prefix string) (all []*rotation.Role, damaged, err error)
	}
	// Types are the types of secrets, by name, also that of administrators.
	Types map[string]secret.Values
	// Retention is how long retired values are recognized; zero means not at all.
	Retention func(ctx context.Context) (time.Duration, error)
	// Writable reports whether this node may write to storage.
	Writable func() bool
	// Noted is called for each role of which a use is stored, by its key.
	Noted func(key string)
	Now   func() time.Time
	Log   func() hclog.Logger
}

// Tripwire knows the retired values of all roles and connections.
type Tripwire struct {
	ports Ports
	// equal compares two digests; it takes as long whatever they are.
	equal  func(x, y secret.Digest) int
	roles  sync.Map      // key of the role to *kept
	signal chan struct{} // a use was noted
	sweep  chan struct{} // the retention was changed
}

// New returns a Tripwire. What is stored is read when it is first asked for.
func New(p Ports) *Tripwire {
	return &Tripwire{ports: p, equal: equal, signal: make(chan struct{}, 1), sweep: make(chan struct{}, 1)}
}

// of returns what is kept of a role.
func (t *Tripwire) of(key string) *kept {
	if known, ok := t.roles.Load(key); ok {
		return known.(*kept)
	}
	known, _ := t.roles.LoadOrStore(key, &kept{key: Prefix + key, lastUse: -1})
	return known.(*kept)
}

// Invalidate forgets what was read from a key of storage, which another node has written.
func (t *Tripwire) Invalidate(key string) {
	if of, ok := strings.CutPrefix(key, Prefix); ok {
		kind, name, _ := strings.Cut(of, "/")
		name, _, _ = strings.Cut(name, "/") // of a page
		t.roles.Delete(kind + "/" + name)
	}
}

// Leave keeps what recognizes the values that were current once, and that the state after
// does not have any more, or has only to ask applications to refuse them. It implements
// rotation.Engine.Leave.
func (t *Tripwire) Leave(ctx context.Context, r *rotation.Role, before, after *rotation.State) error {
	gone := t.gone(before, after)
	if len(gone) == 0 {
		return nil
	}
	retention, err := t.ports.Retention(ctx)
	if err != nil || retention == 0 {
		return err
	}
	return t.change(ctx, t.of(r.Key), func(e *entry) error {
		for _, v := range gone {
			e.add(v)
		}
		return nil
	})
}

// gone lists the values that were current once and are in before only. One that only has
// another stage, version or way in after is not gone, unless it is held there.
func (t *Tripwire) gone(before, after *rotation.State) []value {
	var gone []value
	for name, was := range before.Secrets {
		is := after.Secrets[name]
		if is == nil {
			is = &rotation.Secret{}
		}
		for _, v := range []*rotation.Value{was.Current, was.Previous} {
			if v == nil || v == is.Current || v == is.Previous {
				continue
			}
			left, ok := t.retired(*was, v)
			if ok && !t.has(is, left.Digests[0]) {
				gone = append(gone, left)
			}
		}
	}
	return gone
}

// has reports whether a value with that digest is still current or previous.
func (t *Tripwire) has(s *rotation.Secret, digest secret.Digest) bool {
	for _, v := range []*rotation.Value{s.Current, s.Previous} {
		if v == nil || v.Held() {
			continue
		}
		if digests, err := t.ports.Types[s.Type].Digests(v.Material); err == nil && digests[0] == digest {
			return true
		}
	}
	return false
}

// retired is what stays of v. Of a value that is damaged nothing can: that must not keep
// its role from giving it up.
func (t *Tripwire) retired(s rotation.Secret, v *rotation.Value) (value, bool) {
	of, ok := t.ports.Types[s.Type]
	if !ok {
		return value{}, false
	}
	digests, err := of.Digests(v.Material)
	if err != nil {
		t.ports.Log().Warn("a value that is given up is damaged, and will not be recognized", "secret", s.Name, "version", v.Version, "error", err)
		return value{}, false
	}
	left := value{Secret: s.Name, Type: s.Type, Version: v.Version, Retired: t.ports.Now().UTC().Truncate(time.Second), Digests: digests}
	if signs, ok := of.(secret.Tokens); ok {
		left.KeyID = signs.KeyID(v.Material)
	}
	return left, true
}
