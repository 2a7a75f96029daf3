// Package publish keeps destinations in sync with the roles that name them: it
// publishes after each commit, reconciles what targets hold later, and says which
// destinations an operator may write and a role may name.
package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Prefix is the storage of destinations.
const Prefix = "destination/"

// Destinations sees to it that destinations hold what the roles that name them have.
// Only reconcile publishes. A rotation asks it for each copy after its commit, and waits.
// Workers ask it for the rest: what a rotation could not publish, roles and destinations
// that were changed, and targets that somebody else has changed. There is one worker for
// each destination at most, so that one that hangs keeps nobody else waiting.
type Destinations struct {
	ports  Ports
	signal chan struct{}
	// turns has a *sync.Mutex for each key, which reconcile holds.
	turns sync.Map

	mu      sync.Mutex
	working map[string]bool // destinations that a worker is busy with
	known   map[key]attempted
}

// New returns the destinations of a mount. Nothing is reconciled before Run.
func New(ports Ports) *Destinations {
	return &Destinations{ports: ports, signal: make(chan struct{}, 1), working: map[string]bool{}, known: map[key]attempted{}}
}

// Get reads a stored destination, nil if there is none.
func (d *Destinations) Get(ctx context.Context, name string) (*destination.Config, error) {
	var stored json.RawMessage
	found, err := d.ports.Store.Read(ctx, Prefix+name, &stored)
	if err != nil || !found {
		return nil, err
	}
	c, err := destination.Decode(stored)
	if err != nil {
		return nil, fmt.Errorf("read destination %s: %w", name, err)
	}
	return c, nil
}

// Named reads the destinations of those names. What is not there is left out.
func (d *Destinations) Named(ctx context.Context, names []string) (map[string]*destination.Config, error) {
	known := map[string]*destination.Config{}
	for _, name := range names {
		c, err := d.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		if c != nil {
			known[name] = c
		}
	}
	return known, nil
}

// List names the destinations.
func (d *Destinations) List(ctx context.Context) ([]string, error) {
	return d.ports.Store.List(ctx, Prefix)
}

// RoleNames lists the roles that name a destination.
func (d *Destinations) RoleNames(ctx context.Context, name string) ([]string, error) {
	using, err := d.using(ctx, name)
	return roleNames(using), err
}

// using returns the roles that name a destination.
func (d *Destinations) using(ctx context.Context, name string) ([]*rotation.Role, error) {
	using, err := d.ports.Roles.All(ctx, roles.Prefix)
	return slices.DeleteFunc(using, func(r *rotation.Role) bool {
		return !slices.Contains(r.Snapshot().Destinations, name)
	}), err
}

func roleNames(using []*rotation.Role) []string {
	names := make([]string, 0, len(using))
	for _, r := range using {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names
}
