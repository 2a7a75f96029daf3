package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Identity tells one start of one server from all others: it is another one after a
// restart, a failover, a promotion, or a restore.
type Identity struct {
	// System identifies the cluster, and Timeline its history since a promotion; both
	// are empty on servers that do not let the administrator know.
	System, Timeline string
	Started          time.Time
}

// Each of these functions is for everybody unless somebody revoked it; when the server
// started is for everybody who may read what PostgreSQL itself can do without.
const (
	askStart    = "SELECT '', '', pg_catalog.pg_postmaster_start_time()"
	askIdentity = `SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
		pg_catalog."left"(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8), pg_catalog.pg_postmaster_start_time()`
)

// Identity asks which server a connection leads to, by one query of the administrator.
// The error wraps rotation.ErrRefused if the server refuses the administrator's login.
func (p *Client) Identity(ctx context.Context, connection string) (Identity, error) {
	found, err := p.identity(ctx, connection, askIdentity)
	if CodeOf(err) == CodeInsufficientPrivilege {
		found, err = p.identity(ctx, connection, askStart)
	}
	if LoginRefused(err) {
		return found, fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	return found, err
}

func (p *Client) identity(ctx context.Context, connection, question string) (found Identity, err error) {
	err = p.Administer(ctx, connection, Rollback, func(conn *pgx.Conn, _ Server) error {
		ctx, cancel := context.WithTimeout(ctx, CallTimeout)
		defer cancel()
		if err := conn.QueryRow(ctx, question).Scan(&found.System, &found.Timeline, &found.Started); err != nil {
			return fmt.Errorf("ask which server this is: %w", reduce(err))
		}
		return nil
	})
	return found, err
}
