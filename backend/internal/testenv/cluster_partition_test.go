package testenv

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func testIsolate(t *testing.T, c *cluster) { testPartition(t, c, c.Isolate) }

func testDisconnect(t *testing.T, c *cluster) { testPartition(t, c, c.Disconnect) }

// testPartition cuts off the active node: it gives up, another takes over,
// and when the partition is over it follows that one.
func testPartition(t *testing.T, c *cluster, separate func(*Vault) error) {
	old, active := c.failOver(t, func(v *Vault) error {
		go logLoss(t.Context(), t, v)
		return separate(v)
	})
	must(t, gaveUp(t.Context(), old))
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := old.probe.Logical().WriteWithContext(ctx, "cubbyhole/lost", map[string]any{"key": "value"}); err == nil {
		t.Error("the old node accepts a write")
	}
	must(t, c.Heal())
	c.recover(t)
	if now, err := c.Active(t.Context()); err != nil || now != active {
		t.Errorf("after it was healed, %v is active (%v), not %s", now, err, active.ID)
	}
}

// logLoss logs how long a node goes on to believe that it is active.
func logLoss(ctx context.Context, t *testing.T, v *Vault) {
	begun := time.Now()
	if gaveUp(ctx, v) == nil {
		t.Logf("%s gave up after %s", v.ID, since(begun))
	}
}

// gaveUp waits until a node knows that it is not active.
func gaveUp(ctx context.Context, v *Vault) error {
	return v.await(ctx, "the node to give up", func(ctx context.Context) error {
		state, err := v.probe.Sys().LeaderWithContext(ctx)
		if err == nil && state.IsSelf {
			err = errors.New("it is active")
		}
		return err
	})
}

// A standby that is cut off changes nothing for the others.
func testDisconnectStandby(t *testing.T, c *cluster) {
	active, err := c.Active(t.Context())
	must(t, err)
	standbys, err := c.Standbys(t.Context())
	must(t, err)
	must(t, c.Disconnect(standbys[0]))
	_, err = active.Client.Logical().WriteWithContext(t.Context(), "cubbyhole/meanwhile", map[string]any{"key": "value"})
	must(t, err)
	state, err := active.Client.Sys().LeaderWithContext(t.Context())
	must(t, err)
	if err := standbys[0].follows(t.Context(), active, state.RaftCommittedIndex); err == nil {
		t.Error("the standby gets what is written")
	}
	must(t, c.Heal())
	must(t, c.Settle(t.Context()))
	if now, err := c.Active(t.Context()); err != nil || now != active {
		t.Errorf("%v is active (%v), not %s", now, err, active.ID)
	}
}

// The kernel gives one port to several clients: each is told by whom it is connected to.
func TestClientsOfOnePort(t *testing.T) {
	t.Parallel()
	port, err := freePort(t.Context())
	must(t, err)
	reuse := func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		}), err)
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, Control: reuse}
	inodes := map[net.Conn]string{}
	for range 2 {
		server, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		must(t, err)
		defer server.Close() //nolint:errcheck // nothing depends on it
		client, err := from.DialContext(t.Context(), "tcp", server.Addr().String())
		must(t, err)
		defer client.Close() //nolint:errcheck // nothing depends on it
		conn, err := server.Accept()
		must(t, err)
		defer conn.Close() //nolint:errcheck // nothing depends on it
		file, err := client.(*net.TCPConn).File()
		must(t, err)
		defer file.Close() //nolint:errcheck // nothing depends on it
		var stat syscall.Stat_t
		must(t, syscall.Fstat(int(file.Fd()), &stat))
		inodes[conn] = strconv.FormatUint(stat.Ino, 10)
	}
	for conn, want := range inodes {
		if got := clientInode(conn); got != want || !hasSocket(os.Getpid(), got) {
			t.Errorf("the client of %s has the inode %s, not %q", conn.LocalAddr(), want, got)
		}
	}
}
