package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// QueryRow reads one row. It returns pgx.ErrNoRows itself when there is none.
func QueryRow(ctx context.Context, conn *pgx.Conn, sql string, arguments []any, into ...any) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	err := conn.QueryRow(ctx, sql, arguments...).Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return pgx.ErrNoRows
	}
	return reduce(err)
}

// Execute sends one text to the server and waits at most CallTimeout.
func Execute(ctx context.Context, conn *pgx.Conn, sql string, secrets ...string) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	return reduce(err, secrets...)
}

// ExecuteOne is Execute for text that others wrote. It goes through the extended
// protocol, in which a text with more than one statement is an error, so that
// none can end the transaction around it by a COMMIT at its end. One that ends it
// all the same is an error, so that no other statement follows it.
func ExecuteOne(ctx context.Context, conn *pgx.Conn, sql string, secrets ...string) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	_, err := conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Close()
	if err == nil && conn.PgConn().TxStatus() != inTransaction {
		return errors.New("it ended the transaction in which the engine runs it: leave out the COMMIT or ROLLBACK")
	}
	return reduce(err, secrets...)
}

// inTransaction is the status that the server tells inside of a transaction
// (https://www.postgresql.org/docs/current/protocol-message-formats.html, ReadyForQuery).
const inTransaction = 'T'
