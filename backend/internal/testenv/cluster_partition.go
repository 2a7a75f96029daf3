package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
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
// its address. It serves nobody else.
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
func (c *Cluster) connecting(conn net.Conn) string {
	inode := clientInode(conn)
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

// clientInode returns the inode of the socket at the other end of a connection; ""
// if there is none. Both addresses tell it: the kernel gives one port to several
// clients, as long as they connect to different servers.
func clientInode(conn net.Conn) string {
	table, _ := os.ReadFile("/proc/net/tcp")
	_, line, _ := bytes.Cut(table, []byte(" "+kernelAddress(conn.RemoteAddr())+" "+kernelAddress(conn.LocalAddr())+" "))
	line, _, _ = bytes.Cut(line, []byte("\n"))
	const inode = 6 // after state, queues, timer, retransmissions, user and timeout
	if fields := bytes.Fields(line); len(fields) > inode && string(fields[inode]) != "0" {
		return string(fields[inode])
	}
	return ""
}

// kernelAddress is an address of 127.0.0.1 as the kernel writes it.
func kernelAddress(address net.Addr) string {
	_, port, _ := net.SplitHostPort(address.String())
	number, _ := strconv.Atoi(port)
	return fmt.Sprintf("0100007F:%04X", number)
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
