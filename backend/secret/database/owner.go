package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
)

// OwnerCheck is the name of the finding that a user is another mount's.
const OwnerCheck = "database.managed_by"

// checkForeign finds users whom another mount manages.
func (d *driver) checkForeign(ctx context.Context, conn *pgx.Conn, r *report, c settings) ([]postgres.Note, error) {
	var notes []postgres.Note
	for _, username := range c.Usernames {
		us, err := d.postgres.Owner(ctx, c.Connection, username)
		if err != nil {
			return nil, err
		}
		n, err := postgres.AskOwner(ctx, conn, username, "")
		if err != nil {
			return nil, fmt.Errorf("find out who manages %q: %w", username, err)
		}
		err = n.Check(us, c.Connection)
		r.Expect(err == nil, OwnerCheck, preflight.Error, preflight.Fix{}, "%v", err)
		notes = append(notes, n)
	}
	return notes, nil
}

// checkOwners wants each user's comment to say who manages it.
func (d *driver) checkOwners(ctx context.Context, conn *pgx.Conn, i inspection) error {
	notes, err := d.checkForeign(ctx, conn, i.report, i.config)
	for _, n := range notes {
		us, failed := d.postgres.Owner(ctx, i.config.Connection, n.Username)
		if failed != nil {
			return errors.Join(err, failed)
		}
		if n.Owner().Mount != "" || !n.Found {
			continue
		}
		text, failed := n.Naming(us)
		if failed != nil {
			return errors.Join(err, failed)
		}
		i.Expect(n.Writable, OwnerCheck, preflight.Warning, preflight.SQL(preflight.Say("COMMENT ON ROLE %s IS %s", preflight.Name(n.Username), preflight.Literal(text))),
			"other mounts and Vaults can't see that this mount manages %q, because the administrator may not change the comment on it", n.Username)
		i.Expect(!n.Writable, OwnerCheck, preflight.Warning, i.about.Write("rotate", "reason=owner"),
			"other mounts and Vaults can't see yet that this mount manages %q; the engine writes it into the comment on it when it next sets the password", n.Username)
	}
	return err
}
