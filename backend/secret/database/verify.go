package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Verify logs in with what must work, and once as each user with what must not: a
// server that trusts everybody proves nothing by accepting the right password. That is
// the previous password of a single user, the current user's for the idle one of two
// whose overlap has ended, and else a random one.
func (d *driver) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	if s.Current == nil {
		return nil, secret.ErrNoCurrent
	}
	c, current, err := d.parts(s, s.Current.Material)
	if err != nil {
		return nil, err
	}
	if err := d.Test(ctx, s, s.Current.Material); err != nil {
		return nil, err
	}
	proofs := proofsOf(current, len(c.VerificationStatements))
	at, err := d.postgres.Server(c.Connection)
	if err != nil {
		return proofs, err
	}
	for _, a := range append([]attempt{wrongLogin(s, current)}, d.others(c, s, current)...) {
		proof, err := a.prove(ctx, d.postgres, at)
		if err != nil {
			return proofs, err
		}
		proofs = append(proofs, proof)
	}
	return proofs, nil
}

func proofsOf(current postgres.Login, statements int) []string {
	proofs := []string{fmt.Sprintf("login as %q accepted", current.Username)}
	if statements > 0 {
		proofs = append(proofs, fmt.Sprintf("%d verification statements ran as %q", statements, current.Username))
	}
	return proofs
}

// attempt is a login and what the server must make of it.
type attempt struct {
	login postgres.Login
	what  string // names the password
	works bool
}

// wrongLogin is the attempt to log in as the current user with what must be refused.
func wrongLogin(s rotation.Secret, current postgres.Login) attempt {
	if s.Previous != nil {
		l, err := postgres.ReadLogin(s.Previous.Material)
		if err == nil && l.Username == current.Username && l.Password != current.Password {
			return attempt{l, "its previous password", false}
		}
	}
	return attempt{postgres.Login{Username: current.Username, Password: postgres.RandomPassword()}, "a random password", false}
}

// others returns the attempts as the users that are not current.
func (d *driver) others(c settings, s rotation.Secret, current postgres.Login) []attempt {
	var attempts []attempt
	var previous postgres.Login
	if kept := s.PreviousAt(d.postgres.Now()); kept != nil {
		if l, _ := postgres.ReadLogin(kept.Material); l.Username != current.Username {
			previous = l
			attempts = append(attempts, attempt{l, "its previous password", true})
		}
	}
	for _, username := range c.Usernames {
		if username != current.Username && username != previous.Username {
			attempts = append(attempts, attempt{postgres.Login{Username: username, Password: current.Password}, "the current user's password", false})
		}
	}
	return attempts
}

// prove makes the attempt and returns a sentence about it.
func (a attempt) prove(ctx context.Context, p *postgres.Client, at postgres.Server) (string, error) {
	if !a.works {
		code, err := p.ProveRefused(ctx, at, a.login, a.what)
		if errors.Is(err, rotation.ErrUnproven) {
			return fmt.Sprintf("that a login as %q with %s is refused: %v", a.login.Username, a.what, err), nil
		}
		return fmt.Sprintf("login as %q with %s refused: %s", a.login.Username, a.what, code), err
	}
	if err := at.Try(ctx, a.login); postgres.LoginRefused(err) {
		return "", fmt.Errorf("use previous password, which is in its overlap: %w: %w", rotation.ErrRefused, err)
	} else if err != nil {
		return "", fmt.Errorf("use previous password, which is in its overlap: %w", err)
	}
	return fmt.Sprintf("login as %q with %s accepted", a.login.Username, a.what), nil
}
