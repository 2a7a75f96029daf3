package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// A pause between two attempts of Eventually is twice as long as the one before, because
// what happens in a moment is not to be waited for longer.
const (
	shortestPause = time.Millisecond
	longestPause  = 200 * time.Millisecond
)

func nextPause(pause time.Duration) time.Duration { return min(2*pause, longestPause) }

// Eventually calls check until it returns nil, at most until ctx ends, with a
// short pause in between. Its error names what was waited for, the last error
// of check, and how ctx ended. ctx needs a deadline.
func Eventually(ctx context.Context, what string, check func(context.Context) error) error {
	for pause := shortestPause; ; pause = nextPause(pause) {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// Listens returns an error unless something listens at an address.
func Listens(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// claims holds what freePort listens at until this process ends.
var claims struct {
	mu        sync.Mutex
	listeners []net.Listener
}

// freePort returns a TCP port of 127.0.0.1 that nothing listens on. It lies
// below the range the kernel takes clients' ports from: a server must get the
// same port again after a restart. Until this process ends no other call returns
// it, in any process, also while its server is down: it is claimed by a listener
// at 127.0.0.2.
func freePort(ctx context.Context) (int, error) {
	var err error
	for range 100 {
		port := 20000 + rand.IntN(12000) //nolint:gosec // not a secret
		if err = claim(ctx, strconv.Itoa(port)); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// FreeAddress returns an address of this machine that nothing listens at, and that no
// other call returns until this process ends, in any process.
func FreeAddress(ctx context.Context) (string, error) {
	port, err := freePort(ctx)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// claim returns an error if a port is taken, or claimed by anybody.
func claim(ctx context.Context, port string) error {
	claimed, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return errors.Join(err, claimed.Close())
	}
	claims.mu.Lock()
	defer claims.mu.Unlock()
	claims.listeners = append(claims.listeners, claimed)
	return l.Close()
}
