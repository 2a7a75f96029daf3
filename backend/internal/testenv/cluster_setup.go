package testenv

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"
)

// form makes one cluster of the nodes: the first is initialised, the others
// join it.
func (c *Cluster) form(ctx context.Context) error {
	first := c.Nodes[0]
	if err := first.initialise(ctx); err != nil {
		return err
	}
	c.RootToken, c.UnsealKey = first.RootToken, first.UnsealKey
	if _, err := c.Active(ctx); err != nil {
		return err
	}
	if err := first.enableAudit(ctx); err != nil {
		return err
	}
	return c.each(func(v *Vault) error {
		if v == first {
			return nil
		}
		return v.join(ctx, first)
	})
}

// join makes a new server a node of the leader's cluster and unseals it.
func (v *Vault) join(ctx context.Context, leader *Vault) error {
	v.setKeys(leader.RootToken, leader.UnsealKey)
	_, err := v.Client.Sys().RaftJoinWithContext(ctx, &api.RaftJoinRequest{LeaderAPIAddr: leader.Address})
	if err != nil {
		return fmt.Errorf("join cluster: %w", err)
	}
	return v.Unseal(ctx)
}

// Settle waits until the cluster is whole: one node active, all nodes voters,
// and all standbys following it and as far as it is. It takes startTimeout at
// most. Its error tells what every node says.
func (c *Cluster) Settle(ctx context.Context) error {
	return c.report(ctx, c.settle(ctx))
}

func (c *Cluster) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return Eventually(ctx, "the cluster to be whole", func(ctx context.Context) error {
		active, err := c.activeNow(ctx, nil)
		if err != nil {
			return err
		}
		state, err := active.probe.Sys().LeaderWithContext(ctx)
		if err != nil {
			return fmt.Errorf("ask %s for raft index: %w", active.ID, err)
		}
		return errors.Join(c.checkVoters(ctx, active), c.each(func(v *Vault) error {
			return v.follows(ctx, active, state.RaftCommittedIndex)
		}))
	})
}

// checkVoters returns an error unless all nodes are voters.
func (c *Cluster) checkVoters(ctx context.Context, active *Vault) error {
	voters, err := active.voters(ctx)
	if err == nil && len(voters) != len(c.Nodes) {
		err = fmt.Errorf("only %v are voters", voters)
	}
	return err
}

// voters returns the IDs of the nodes that may vote.
func (v *Vault) voters(ctx context.Context) ([]string, error) {
	answer, err := v.Client.Logical().ReadRawWithContext(ctx, "sys/storage/raft/configuration")
	if err != nil {
		return nil, fmt.Errorf("read raft configuration: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	var raft struct {
		Data struct {
			Config struct {
				Servers []struct {
					ID    string `json:"node_id"`
					Voter bool   `json:"voter"`
				} `json:"servers"`
			} `json:"config"`
		} `json:"data"`
	}
	if err := answer.DecodeJSON(&raft); err != nil {
		return nil, fmt.Errorf("read raft configuration: %w", err)
	}
	var voters []string
	for _, server := range raft.Data.Config.Servers {
		if server.Voter {
			voters = append(voters, server.ID)
		}
	}
	return voters, nil
}

// follows returns an error unless the node is the active one or its standby,
// and has applied raft's log up to index.
func (v *Vault) follows(ctx context.Context, active *Vault, index uint64) error {
	state, err := v.probe.Sys().LeaderWithContext(ctx)
	if err != nil {
		return fmt.Errorf("ask for leader: %w", err)
	}
	if state.LeaderAddress != active.Address || state.RaftAppliedIndex < index {
		return fmt.Errorf("it follows %q and has index %d, not %s and %d",
			state.LeaderAddress, state.RaftAppliedIndex, active.Address, index)
	}
	return nil
}
