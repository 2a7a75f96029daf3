package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// CallTimeout is how long this side waits for the answer to one statement. It is
// a little longer than the server's own limit, whose error says more.
const CallTimeout = 11 * time.Second

// codeUnsupported is the SQLSTATE with which a standby answers to READ WRITE.
const codeUnsupported = "0A000"

// BeginTrial begins a transaction in which statements of the application run as its own
// user, with its own settings but for what bounds the time.
const BeginTrial = `BEGIN;
SET LOCAL statement_timeout = 10000;
SET LOCAL lock_timeout = 5000;
SET LOCAL idle_in_transaction_session_timeout = 5000`

// Ending says how a transaction ends when its work succeeded.
type Ending struct {
	statement string
	// fence is asked before the statement is sent; nil if nothing takes effect.
	fence rotation.Fence
}

// Commit lets the work take effect if the fence allows it. By then the transaction has
// changed the row that all of its work is about, so that whoever is to decide next can't
// change that row before it has ended. When this process is paused after that, the
// server rolls back before anybody else has decided.
func Commit(fence rotation.Fence) Ending { return Ending{"COMMIT", fence} }

// Rollback lets nothing take effect.
var Rollback = Ending{statement: "ROLLBACK"}

// Within runs work in one transaction of the administrator on conn, which ends as
// Finish says.
func Within(ctx context.Context, conn *pgx.Conn, end Ending, work func() error) error {
	if err := beginOn(ctx, conn, readWrite); err != nil {
		return rotation.Unchanged(err)
	}
	return Finish(ctx, conn, end, work)
}

// What a transaction may do.
const (
	readWrite = "READ WRITE"
	readOnly  = "READ ONLY"
)

// beginOn begins a transaction of the administrator, with the settings that are the
// engine's own.
func beginOn(ctx context.Context, conn *pgx.Conn, access string) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	last, err := lastAnswer(conn.PgConn().Exec(ctx, opening(access, majorVersion(conn))))
	switch {
	case isCode(err, codeUnsupported) && access == readWrite:
		return fmt.Errorf("begin transaction: %w: this server is a standby, point the connection at the primary", reduce(err))
	case err != nil:
		return fmt.Errorf("begin transaction: %w", reduce(err))
	}
	return durable(ctx, conn, last)
}

// lastAnswer is the row that the last statement of a message has answered, if it is one
// value. Nothing else is kept, because a hostile server may answer for ever.
func lastAnswer(results *pgconn.MultiResultReader) (last string, err error) {
	for results.NextResult() {
		last = ""
		for answer := results.ResultReader(); answer.NextRow(); {
			if values := answer.Values(); len(values) == 1 {
				last = string(values[0])
			}
		}
	}
	return last, results.Close()
}

// Finish runs work in the transaction that has begun on conn. It ends as end says,
// or is rolled back when work returns an error, which is returned as it is. Without a
// COMMIT a server changes nothing, so that every error wraps rotation.ErrUnchanged
// but the one of a COMMIT that was not answered.
func Finish(ctx context.Context, conn *pgx.Conn, end Ending, work func() error) error {
	if err := work(); err != nil {
		abandon(ctx, conn)
		return rotation.Unchanged(err)
	}
	if end.fence != nil {
		if err := end.fence(ctx); err != nil {
			abandon(ctx, conn)
			return rotation.Unchanged(fmt.Errorf("before the commit: %w", err))
		}
	}
	return end.send(ctx, conn)
}

const (
	// CommitPatience is how long a COMMIT is waited for that a standby has to confirm.
	CommitPatience = 5 * time.Second
	// codeCanceled is the SQLSTATE of a COMMIT that was given up, with its transaction.
	codeCanceled = "57014"
)

// send ends the transaction. A COMMIT that takes long is on disk already and waits for
// a standby, which may never come back: PostgreSQL is asked to wait no longer, and
// answers that it has committed.
func (e Ending) send(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	asked := make(chan struct{})
	patience := time.AfterFunc(CommitPatience, func() {
		defer close(asked)
		_ = conn.PgConn().CancelRequest(ctx) // or the answer comes too late, and is not known
	})
	tag, err := conn.Exec(ctx, e.statement)
	if !patience.Stop() {
		<-asked
		MarkAltered(conn) // what was asked may come late, and hit what follows
	}
	err = WithoutMessage(reduce(err)) // a deferred trigger speaks here
	switch code := CodeOf(err); {
	case err == nil && tag.String() != e.statement:
		return rotation.Unchanged(errors.New("end transaction: the server has rolled it back"))
	case err == nil:
		return nil
	case code == codeCanceled, code != "" && !slices.Contains(lost, code[:2]):
		return rotation.Unchanged(&commitError{err})
	}
	return fmt.Errorf("end transaction: %w", err)
}

// lost are the classes of SQLSTATEs with which a pooler, or a server that is ending,
// says that nobody knows what became of a COMMIT: connection exception, operator
// intervention, system error, internal error.
var lost = []string{"08", "57", "58", "XX"}

// commitError is the answer of a server that refuses to commit.
type commitError struct{ error }

// Error implements error.
func (e *commitError) Error() string { return "the server refused the COMMIT: " + e.error.Error() }

// Unwrap gives access to the answer.
func (e *commitError) Unwrap() error { return e.error }

// abandon rolls back, also when ctx has ended. When that does not work in a
// second the connection is closed, and the server rolls back by itself.
func abandon(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if Execute(ctx, conn, Rollback.statement) != nil {
		HangUp(ctx, conn)
	}
}

// collisions is how often a transaction is tried that others who change the same user at
// the same moment have kept from changing anything.
const collisions = 5

// Administer runs work on a connection's administrator login, in one transaction. Work is
// run again when somebody else has changed the same user meanwhile.
func (p *Client) Administer(ctx context.Context, name string, end Ending, work func(conn *pgx.Conn, at Server) error) (err error) {
	for range collisions {
		if err = p.administerOnce(ctx, name, end, work); !collided(err) {
			break
		}
	}
	return err
}

// collided reports whether PostgreSQL ended a statement because somebody else has changed
// or deleted the same row of its catalog.
func collided(err error) bool {
	return CodeOf(err) == codeInternalError && strings.Contains(err.Error(), "tuple concurrently ")
}

func (p *Client) administerOnce(ctx context.Context, name string, end Ending, work func(conn *pgx.Conn, at Server) error) error {
	conn, at, err := p.acquire(ctx, name)
	if err != nil {
		return rotation.Unchanged(err)
	}
	defer conn.Release()
	return Finish(ctx, conn.Conn(), end, func() error { return work(conn.Conn(), at) })
}

// Look runs work as a connection's administrator, in a transaction that can change
// nothing. It is a session of its own: what a pooled one was given when it began,
// such as settings, may not be what others are given now.
func (p *Client) Look(ctx context.Context, name string, work func(conn *pgx.Conn, at Server) error) error {
	connection, err := p.lookup(name)
	if err != nil {
		return err
	}
	at, err := p.Server(name)
	if err != nil {
		return err
	}
	conn, err := at.Settled().loginAsOne(ctx, connection.Logins)
	if PasswordRefused(err) && p.changed(name, connection.Logins) {
		return p.Look(ctx, name, work) // the administrator's password was rotated meanwhile
	}
	if err != nil {
		return fmt.Errorf("use connection %q: %w", name, err)
	}
	defer HangUp(ctx, conn)
	if err := beginOn(ctx, conn, readOnly); err != nil {
		return err
	}
	return Finish(ctx, conn, Rollback, func() error { return work(conn, at) })
}

// loginAsOne logs in with the first login that is not refused.
func (s Server) loginAsOne(ctx context.Context, logins []Login) (*pgx.Conn, error) {
	err := errors.New("there is no login")
	for _, l := range logins {
		var conn *pgx.Conn
		if conn, err = s.Login(ctx, l); err == nil || !PasswordRefused(err) {
			return conn, err
		}
		err = AdministratorRefused(l, err)
	}
	return nil, err
}

// Server returns how to reach the server of a connection for logins of others.
func (p *Client) Server(name string) (Server, error) {
	connection, err := p.lookup(name)
	if err != nil {
		return Server{}, err
	}
	s, err := NewServer(connection.Settings.Config)
	if err != nil {
		return Server{}, fmt.Errorf("use connection %q: %w", name, err)
	}
	return s, nil
}
