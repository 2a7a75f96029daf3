package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// restartDelay is how long a node that was killed stays away, so that there is
// something to see.
const restartDelay = 10 * time.Second

// runCluster starts a cluster beside PostgreSQL, runs the command or waits for
// the end of ctx, and stops the cluster.
func runCluster(ctx context.Context, pg *testenv.Postgres, command []string) (err error) {
	c, err := testenv.StartCluster(ctx, testenv.ClusterOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	binary, err := installPlugin(ctx, c, true)
	if err != nil {
		return err
	}
	active, err := c.Active(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var keepers sync.WaitGroup
	defer keepers.Wait()
	defer cancel()
	for _, v := range c.Nodes {
		keepers.Go(func() { keepAlive(ctx, v) })
	}
	env := append(environment(pg, active, binary), variable{"SMVM_UNSEAL_KEY", c.UnsealKey})
	if len(command) > 0 {
		return runCommand(command, env) //nolint:contextcheck // it gets the signals instead
	}
	return waitCluster(ctx, c, active, env)
}

// keepAlive starts a node again whenever it has ended, until ctx ends.
func keepAlive(ctx context.Context, v *testenv.Vault) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.Exited():
		}
		fmt.Fprintf(os.Stderr, "devenv: %s has ended; it is started again in %s\n", v.ID, restartDelay)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartDelay):
		}
		if err := v.Start(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "devenv: start %s: %s\n", v.ID, err)
			continue
		}
		fmt.Fprintf(os.Stderr, "devenv: %s runs again, unsealed, as process %d\n", v.ID, v.PID())
	}
}

// waitCluster prints how to talk to the servers, and returns when ctx ends.
func waitCluster(ctx context.Context, c *testenv.Cluster, active *testenv.Vault, env []variable) error {
	fmt.Printf("\nPostgreSQL and %d Vault nodes are running, with the plugin at smvm/. In another terminal:\n\n", len(c.Nodes))
	export(env)
	fmt.Printf("\nVAULT_ADDR and the logs are those of %s, which is active. All nodes:\n\n", active.ID)
	for _, v := range c.Nodes {
		fmt.Printf("  %s  process %-8d %s  %s\n", v.ID, v.PID(), v.Address, v.LogPath)
	}
	fmt.Print("\nStandbys forward what they are asked. And then, for example:\n\n")
	for _, e := range examples(active, standby(c, active)) {
		fmt.Printf("  %-48s # %s\n", e.command, e.shows)
	}
	fmt.Print("\nCtrl-C here stops all of them and removes everything they had.\n")
	<-ctx.Done()
	fmt.Fprintln(os.Stderr, "\ndevenv: stopping")
	return nil
}

// example is a command to type, and what it is for.
type example struct{ command, shows string }

func examples(active, standby *testenv.Vault) []example {
	pid := active.PID()
	return []example{
		{"vault operator members", "which node is active"},
		{"vault operator raft list-peers", "who votes"},
		{"vault path-help smvm", "the plugin"},
		{"vault operator step-down", "another node takes over"},
		{fmt.Sprintf("kill -9 %d", pid), fmt.Sprintf("a node is lost; it comes back after %s", restartDelay)},
		{fmt.Sprintf("kill -STOP %d; sleep 10; kill -CONT %[1]d", pid), "a leader that does not know it is deposed"},
		{"vault operator seal", "of the node at VAULT_ADDR, if it is active"},
		{`vault operator unseal "$SMVM_UNSEAL_KEY"`, "and back"},
		{"export VAULT_ADDR=" + standby.Address, "talk to another node"},
	}
}

// standby returns a node that is not the active one.
func standby(c *testenv.Cluster, active *testenv.Vault) *testenv.Vault {
	for _, v := range c.Nodes {
		if v != active {
			return v
		}
	}
	return active
}
