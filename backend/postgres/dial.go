package postgres

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

// undivided leaves host names to dial, which divides the time among their addresses;
// pgx would give each address all of it.
func undivided(_ context.Context, host string) ([]string, error) { return []string{host}, nil }

// direct makes a configuration lead to one host, which has to prove itself by its own
// name.
func (s Server) direct(c *pgx.ConnConfig, at Address) {
	c.Host, c.Port = at.Host, uint16(at.Port) //nolint:gosec // Endpoint checked it
	c.TLSConfig = nil
	if s.tls == nil {
		return
	}
	c.TLSConfig = s.tls.Clone()
	if s.Config.TLSServerName == "" {
		c.TLSConfig.ServerName = at.Host
	}
}

// dial connects to a host by the first of its addresses that answers. An address that
// answers nothing does not use up the time of those after it.
func (s Server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	all, err := s.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{KeepAlive: 30 * time.Second}
	var failed []error
	for i, one := range all {
		limited, cancel := share(ctx, len(all)-i)
		conn, err := dialer.DialContext(limited, network, net.JoinHostPort(one, port))
		cancel()
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// share returns a context for the next of the attempts that are left: it ends when
// that one has had its part of the time.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
}
