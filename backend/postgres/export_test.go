package postgres

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Primary is which host is taken for the primary.
func (s Server) Primary() *atomic.Pointer[Address] { return s.primary }

// ResolveBy has host names resolved by a test.
func (s *Server) ResolveBy(resolve func(ctx context.Context, host string) ([]string, error)) {
	s.resolve = resolve
}

// Refusal is refusal.
func (s Server) Refusal(ctx context.Context, l Login, what string) (string, error) {
	return s.refusal(ctx, l, what)
}

// ConnConfig is how to log in at the first host.
func (s Server) ConnConfig(l Login) *pgx.ConnConfig { return s.connConfig(l, s.endpoint.Addresses[0]) }

// Fresh is the server with a template that is made now.
func (s Server) Fresh() (Server, error) {
	fresh, err := parseWithoutEnvironment()
	s.template = fresh
	return s, err
}

// TryFirst has the pool of a connection log in with one of the logins first.
func (p *Client) TryFirst(ctx context.Context, name string, login int32) error {
	from, err := p.pool(ctx, name)
	if err == nil {
		from.login.Store(login)
	}
	return err
}

// ForgetPrimary makes it unknown which host is the primary.
func ForgetPrimary(e Endpoint) { primaryOf(e).Store(nil) }

// To leads the way to these hosts.
func (w Way) To(addresses []Address) Way { return w.to(addresses) }
