package testenv

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ClusterOptions says what StartCluster starts. The zero value is three nodes
// that talk to each other directly.
type ClusterOptions struct {
	// Nodes is how many there are; 0 means 3.
	Nodes int
	// Binary is the vault to run; empty means VaultBinary's.
	Binary string
	// Config is HCL to add to every server's configuration file.
	Config string
	// Partitionable puts a proxy in front of each node's cluster port, which
	// Isolate and Disconnect need.
	Partitionable bool
}

// Cluster is a Vault of several nodes with integrated storage (raft), as in
// production: initialised once, every node unsealed, one of them active, each
// with an audit log of its own. A node's own methods (Kill, Pause, Seal, Start
// and so on) make it fail and bring it back.
type Cluster struct {
	// Nodes are smvm-1, smvm-2 and so on. They stay the same whatever happens.
	Nodes []*Vault
	// RootToken and UnsealKey (the only share) are what initialisation gave.
	RootToken, UnsealKey string

	fronts []*Proxy // before the nodes' cluster ports, if Partitionable
}

// StartCluster starts a new cluster and returns when all nodes are voters and
// one is active. ctx bounds the start only; the servers run until Stop or until
// this process dies.
func StartCluster(ctx context.Context, opts ClusterOptions) (*Cluster, error) {
	c, err := newCluster(ctx, opts)
	if err == nil {
		err = c.each(func(v *Vault) error { return v.launch(ctx) })
	}
	if err == nil {
		err = c.form(ctx)
	}
	if err == nil {
		err = c.Settle(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Stop())
	}
	return c, nil
}

// newCluster prepares the nodes' files and the proxies between them. What it
// returns needs a Stop also when there is an error.
func newCluster(ctx context.Context, opts ClusterOptions) (*Cluster, error) {
	c := &Cluster{}
	if opts.Nodes == 0 {
		opts.Nodes = 3
	}
	for i := range opts.Nodes {
		node := VaultOptions{Binary: opts.Binary, Config: opts.Config, id: fmt.Sprintf("smvm-%d", i+1)}
		if opts.Partitionable {
			node.front = c.startFront
		}
		v, err := newVault(ctx, node)
		if v != nil {
			v.member = true
			c.Nodes = append(c.Nodes, v)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// Stop ends all nodes and removes everything they had. A second call does
// nothing. It is safe on a nil cluster.
func (c *Cluster) Stop() error {
	if c == nil {
		return nil
	}
	err := c.each((*Vault).Stop)
	for _, front := range c.fronts {
		err = errors.Join(err, front.Stop())
	}
	return err
}

// each calls act for all nodes at the same time.
func (c *Cluster) each(act func(*Vault) error) error {
	errs := make([]error, len(c.Nodes))
	var group sync.WaitGroup
	for i, v := range c.Nodes {
		group.Go(func() {
			if err := act(v); err != nil {
				errs[i] = fmt.Errorf("%s: %w", v.ID, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}
