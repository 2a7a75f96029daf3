package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Started returns when the server of a connection was started, to the microsecond, as
// it tells its administrator. Two servers do not start in the same one: so it tells
// whether two addresses lead to one server, also where one was copied from the other.
func (p *Client) Started(ctx context.Context, connection string) (time.Time, error) {
	var started time.Time
	err := p.Look(ctx, connection, func(conn *pgx.Conn, _ Server) error {
		ctx, cancel := context.WithTimeout(ctx, CallTimeout)
		defer cancel()
		if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_postmaster_start_time()").Scan(&started); err != nil {
			return fmt.Errorf("ask when the server was started: %w", reduce(err))
		}
		return nil
	})
	return started, err
}
