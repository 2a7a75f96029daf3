package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Sessions are those that one user has open on a server.
type Sessions struct {
	Count int
	// Newest is when the youngest of them began, by the server's clock; zero where
	// the administrator may not see it.
	Newest time.Time
}

// openSessions counts the sessions of each user. Every user may see whose sessions
// there are; when they began is only for members of pg_read_all_stats, and NULL for
// others. Parallel workers are part of a session that is counted already.
const openSessions = `
	SELECT usename::text, pg_catalog.count(*), pg_catalog.max(backend_start) FROM pg_catalog.pg_stat_activity
	WHERE usename = ANY ($1) AND coalesce(backend_type, '') <> 'parallel worker' GROUP BY usename`

// Sessions returns the open sessions of these users, by one query as the
// administrator of the connection. Users without any are left out.
func (p *Client) Sessions(ctx context.Context, connection string, usernames []string) (map[string]Sessions, error) {
	found := map[string]Sessions{}
	err := p.Administer(ctx, connection, Rollback, func(conn *pgx.Conn, _ Server) error {
		ctx, cancel := context.WithTimeout(ctx, CallTimeout)
		defer cancel()
		rows, err := conn.Query(ctx, openSessions, usernames)
		if err != nil {
			return fmt.Errorf("look at open sessions: %w", reduce(err))
		}
		var username string
		var count int
		var newest *time.Time
		_, err = pgx.ForEachRow(rows, []any{&username, &count, &newest}, func() error {
			of := Sessions{Count: count}
			if newest != nil {
				of.Newest = *newest
			}
			if slices.Contains(usernames, username) { // a hostile server may answer any number of others
				found[username] = of
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look at open sessions: %w", reduce(err))
		}
		return nil
	})
	return found, err
}
