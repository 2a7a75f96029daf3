package secret

import (
	"context"
	"fmt"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Verify logs in with what must work, and with what must not: a random password
// always, because a server that trusts everybody proves nothing by accepting the
// right one; the previous password of a single user; and the idle one of two
// users once its overlap has ended.
func (d *database) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	if s.Current == nil {
		return nil, errNoCurrent
	}
	c, current, err := d.parts(s, s.Current.Material)
	if err != nil {
		return nil, err
	}
	if err := d.Test(ctx, s, s.Current.Material); err != nil {
		return nil, err
	}
	proofs := proofsOf(current, len(c.VerificationStatements))
	at, err := d.postgres.server(c.Connection)
	if err != nil {
		return proofs, err
	}
	attempts := []attempt{{Login{Username: current.Username, Password: randomPassword()}, "a random password", false}}
	attempts = append(attempts, d.others(c, s, current)...)
	for _, a := range attempts {
		proof, err := a.prove(ctx, at)
		if err != nil {
			return proofs, err
		}
		proofs = append(proofs, proof)
	}
	return proofs, nil
}

func proofsOf(current Login, statements int) []string {
	proofs := []string{fmt.Sprintf("login as %q accepted", current.Username)}
	if statements > 0 {
		proofs = append(proofs, fmt.Sprintf("%d verification statements ran as %q", statements, current.Username))
	}
	return proofs
}

// attempt is a login and what the server must make of it.
type attempt struct {
	login Login
	what  string // names the password
	works bool
}

// others returns the attempts for all passwords but the current one.
func (d *database) others(c databaseSettings, s rotation.Secret, current Login) []attempt {
	var attempts []attempt
	var previous Login
	if kept := s.Previous; kept != nil {
		l, _ := loginOf(kept.Material)
		switch {
		case l.Username == current.Username && l.Password != current.Password:
			attempts = append(attempts, attempt{l, "its previous password", false})
		case l.Username != current.Username && s.PreviousAt(d.postgres.Now()) != nil:
			previous = l
			attempts = append(attempts, attempt{l, "its previous password", true})
		}
	}
	for _, username := range c.Usernames {
		if username != current.Username && username != previous.Username {
			attempts = append(attempts,
				attempt{Login{username, current.Password}, "the current user's password", false},
				attempt{Login{username, randomPassword()}, "a random password", false})
		}
	}
	return attempts
}

// prove makes the attempt and returns a sentence about it.
func (a attempt) prove(ctx context.Context, at server) (string, error) {
	if !a.works {
		code, err := at.refusal(ctx, a.login, a.what)
		return fmt.Sprintf("login as %q with %s refused: %s", a.login.Username, a.what, code), err
	}
	if err := at.try(ctx, a.login); loginRefused(err) {
		return "", fmt.Errorf("use previous password, which is in its overlap: %w: %w", rotation.ErrRefused, err)
	} else if err != nil {
		return "", fmt.Errorf("use previous password, which is in its overlap: %w", err)
	}
	return fmt.Sprintf("login as %q with %s accepted", a.login.Username, a.what), nil
}
