package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Isolate makes everything vanish that a node and its peers send each other,
// as in a network partition, until Heal: connections hang, and nobody is told.
// The node's API can still be reached, and the node everything else. It needs
// ClusterOptions.Partitionable.
func (c *Cluster) Isolate(v *Vault) error { return c.separate(v, stalled) }

// Disconnect resets the connections between a node and its peers and refuses
// new ones, until Heal. Unlike with Isolate, both sides notice at once.
func (c *Cluster) Disconnect(v *Vault) error { return c.separate(v, cut) }

// Heal ends Isolate and Disconnect, of all nodes.
func (c *Cluster) Heal() error {
	var err error
	for _, front := range c.fronts {
		err = errors.Join(err, front.Heal())
	}
	return err
}

// separate makes a fault of the node's own front, and of what the node sends
// through the others'.
func (c *Cluster) separate(v *Vault, f fault) error {
	if len(c.fronts) != len(c.Nodes) {
		return fmt.Errorf("separate %s: the cluster is not Partitionable", v.ID)
	}
	for i, node := range c.Nodes {
		if node == v {
			c.fronts[i].setFault(f)
		} else {
			c.fronts[i].setFrom(v.ID, f)
		}
	}
	return nil
}

// startFront starts the proxy by which a node's peers reach it, and returns
// its address.
func (c *Cluster) startFront(ctx context.Context, listen string) (string, error) {
	front, err := startProxy(ctx, listen, c.connecting)
	if err != nil {
		return "", err
	}
	c.fronts = append(c.fronts, front)
	return front.Address(), nil
}

// connecting returns the ID of the node that has the client's side of a
// connection; "" if it is none of them. All of them are 127.0.0.1, so it goes
// by the process.
func (c *Cluster) connecting(client net.Addr) string {
	inode := socketInode(client)
	if inode == "" {
		return ""
	}
	for _, v := range c.Nodes {
		pid := v.PID()
		if pid != 0 && hasSocket(pid, inode) {
			return v.ID
		}
	}
	return ""
}

// socketInode returns the inode of the socket that is bound to a local address
// and connected; "" if there is none.
func socketInode(local net.Addr) string {
	_, port, _ := net.SplitHostPort(local.String())
	number, _ := strconv.Atoi(port)
	want := fmt.Sprintf("0100007F:%04X", number) // 127.0.0.1, as the kernel writes it
	table, _ := os.ReadFile("/proc/net/tcp")
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 9 && fields[1] == want && fields[9] != "0" {
			return fields[9]
		}
	}
	return ""
}

// hasSocket reports whether a process has the socket of that inode.
func hasSocket(pid int, inode string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}
