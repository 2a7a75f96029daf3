package testenv

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/vault/api"
)

// Active returns the node that is active, and waits for one up to
// startTimeout. A node cut off from the others says that it is active until
// its lease has run out; of two, Active returns the one that became it later.
func (c *Cluster) Active(ctx context.Context) (*Vault, error) {
	return c.ActiveOtherThan(ctx, nil)
}

// ActiveOtherThan is Active, not content with the node old: it waits until
// another has taken over. Its error tells what every node says.
func (c *Cluster) ActiveOtherThan(ctx context.Context, old *Vault) (*Vault, error) {
	until, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var active *Vault
	err := Eventually(until, "an active node", func(ctx context.Context) (err error) {
		active, err = c.activeNow(ctx, old)
		return err
	})
	return active, c.report(ctx, err)
}

// ActiveClient returns a client of the node that is active, with the root
// token. It does not follow the active node when that changes: a standby
// forwards what it is asked, but a dead node does not answer.
func (c *Cluster) ActiveClient(ctx context.Context) (*api.Client, error) {
	v, err := c.Active(ctx)
	if err != nil {
		return nil, err
	}
	return v.Client, nil
}

// Standbys returns the nodes that are unsealed and ready to take over, when
// there is an active one.
func (c *Cluster) Standbys(ctx context.Context) ([]*Vault, error) {
	active, err := c.Active(ctx)
	if err != nil {
		return nil, err
	}
	var standbys []*Vault
	for _, v := range c.Nodes {
		if v == active || !v.answering() {
			continue
		}
		// Not by the probe: a standby that is slow is one all the same.
		state, err := v.Client.Sys().LeaderWithContext(ctx)
		if err == nil && state.LeaderAddress == active.Address {
			standbys = append(standbys, v)
		}
	}
	return standbys, nil
}

// StepDown makes the active node give up, in order, and returns it. It does
// not stand for election again in the next ten seconds. Another takes over
// when it has done so: see ActiveOtherThan.
func (c *Cluster) StepDown(ctx context.Context) (*Vault, error) {
	active, err := c.Active(ctx)
	if err != nil {
		return nil, err
	}
	if err := active.Client.Sys().StepDownWithContext(ctx); err != nil {
		return nil, fmt.Errorf("step down: %w", err)
	}
	return active, nil
}

// activeNow returns the node other than old that has been active for the
// shortest time.
func (c *Cluster) activeNow(ctx context.Context, old *Vault) (*Vault, error) {
	var mu sync.Mutex
	var active *Vault
	var latest api.LeaderResponse
	err := c.each(func(v *Vault) error {
		if v == old || !v.answering() {
			return nil
		}
		leader, err := v.probe.Sys().LeaderWithContext(ctx)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && leader.IsSelf && (active == nil || leader.ActiveTime.After(latest.ActiveTime)) {
			active, latest = v, *leader
		}
		return err
	})
	if active == nil {
		return nil, errors.Join(errors.New("no node is active"), err)
	}
	return active, nil
}

// answering reports whether the server runs and is not paused: one that is
// would keep those who ask it waiting.
func (v *Vault) answering() bool {
	pid := v.PID()
	return pid != 0 && !stopped(pid)
}
