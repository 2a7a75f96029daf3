package testenv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// pollInterval is the pause between two attempts of Eventually.
const pollInterval = 50 * time.Millisecond

// Eventually calls check until it returns nil, at most until ctx ends, with a
// short pause in between. Its error names what was waited for, the last error
// of check, and how ctx ended. ctx needs a deadline.
func Eventually(ctx context.Context, what string, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-time.After(pollInterval):
		}
	}
}

// freePort returns a TCP port of 127.0.0.1 that nothing listens on. It lies
// below the range the kernel takes clients' ports from: a server must get the
// same port again after a restart.
func freePort(ctx context.Context) (int, error) {
	var err error
	for range 100 {
		port := 20000 + rand.IntN(12000) //nolint:gosec // not a secret
		var l net.Listener
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
