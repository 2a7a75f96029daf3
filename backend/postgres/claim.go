package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// anyone allows a transaction that no other node decides about.
func anyone(context.Context) error { return nil }

// Claim writes into the comment of each user that this mount manages it, where the
// administrator may; who has no right to write there is found by Inspect. A user of
// another mount is an error, which wraps ErrOwned and names the owner, and nothing is
// changed, unless takeOver; then the answer names the owners that there were.
func (p *Client) Claim(ctx context.Context, connection string, usernames []string, takeOver bool) (former []Owner, err error) {
	err = p.Administer(ctx, connection, Commit(anyone), func(conn *pgx.Conn, _ Server) error {
		former = nil
		for _, username := range usernames {
			them, err := p.claim(ctx, conn, connection, username, takeOver)
			if err != nil {
				return err
			}
			if them.Mount != "" {
				former = append(former, them)
			}
		}
		return nil
	})
	return former, err
}

// claim returns the other mount that a user was taken from.
func (p *Client) claim(ctx context.Context, conn *pgx.Conn, connection, username string, takeOver bool) (Owner, error) {
	us, err := p.owner(ctx, connection, username)
	if err != nil {
		return Owner{}, err
	}
	n, err := AskOwner(ctx, conn, username, "")
	if err == nil && n.Writable {
		// What is set is what is; nobody else changes the user until the commit.
		n, err = AskOwner(ctx, conn, username, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", QuoteName(username), n.limit))
	}
	if err != nil {
		return Owner{}, fmt.Errorf("find out who manages %q: %w", username, err)
	}
	them, refused := n.Owner(), n.Check(us, connection)
	switch {
	case refused != nil && !takeOver:
		return Owner{}, refused
	case refused == nil:
		them = Owner{}
	case !n.Writable:
		return Owner{}, rotation.Invalid("take_over", "the administrator may not change the comment on %q, which says who manages it: as a superuser of PostgreSQL, remove the line that begins with %q from it", username, strings.TrimSpace(ownerMark))
	}
	return them, writeOwner(ctx, conn, n, us)
}

// Release takes out of the comments of users that the owner manages them.
func (p *Client) Release(ctx context.Context, connection string, usernames []string, owner Owner) error {
	return p.Administer(ctx, connection, Commit(anyone), func(conn *pgx.Conn, _ Server) error {
		for _, username := range usernames {
			n, err := AskOwner(ctx, conn, username, "")
			if err != nil {
				return err
			}
			if them := n.Owner(); them.Mount != owner.Mount || them.Role != owner.Role || them.Secret != owner.Secret {
				continue
			}
			if err := writeOwner(ctx, conn, n, Owner{}); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeOwner(ctx context.Context, conn *pgx.Conn, n Note, owner Owner) error {
	statement, err := n.name(owner)
	if err != nil || statement == "" {
		return err
	}
	if err := Execute(ctx, conn, statement); err != nil {
		return fmt.Errorf("write who manages %q: %w", n.Username, err)
	}
	return nil
}

// Hold runs a statement about a user, if there is one, and writes this mount into the
// comment as the owner, where none is named. A user of another mount is an error that
// wraps ErrOwned. Secrets are what no error may show.
func (p *Client) Hold(ctx context.Context, conn *pgx.Conn, connection, username, statement string, secrets ...string) error {
	us, err := p.owner(ctx, connection, username)
	if err != nil {
		return err
	}
	n, err := AskOwner(ctx, conn, username, statement, secrets...)
	if err != nil {
		return err
	}
	if err := n.Check(us, connection); err != nil {
		return err
	}
	return writeOwner(ctx, conn, n, us)
}

// AskOwner runs a statement about a user, if there is one, and asks who manages it then.
func AskOwner(ctx context.Context, conn *pgx.Conn, username, statement string, secrets ...string) (Note, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	if statement != "" {
		statement += "; "
	}
	answer, err := lastAnswer(conn.PgConn().Exec(ctx, statement+aboutOwner(username)))
	if err != nil {
		return Note{}, reduce(err, secrets...)
	}
	return noteOf(username, answer)
}
