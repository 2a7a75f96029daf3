package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// A proof that a password is refused is a login that fails on purpose. Where servers
// lock users out, or ban addresses, after a few of those, too many proofs would do what
// they are to prevent. So they are bounded for each user, and can be turned off.

const (
	// maxProofs is how many there are of one user within proofWindow, at most.
	maxProofs   = 4
	proofWindow = time.Hour
	// maxProven bounds for how many users that is known. Beyond it one is forgotten.
	maxProven = 10_000
)

// proofs are the logins that failed on purpose of late, of this process.
type proofs struct {
	mu sync.Mutex
	of map[proven][]time.Time
}

// proven is a user of a server.
type proven struct{ server, username string }

// begin counts an attempt that is about to fail. When there have been too many, it
// returns when the last of them was.
func (p *proofs) begin(who proven, now time.Time) (last time.Time, allowed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	recent := since(p.of[who], now.Add(-proofWindow))
	if len(recent) >= maxProofs {
		return recent[len(recent)-1], false
	}
	if p.of == nil {
		p.of = map[proven][]time.Time{}
	}
	if _, known := p.of[who]; !known && len(p.of) >= maxProven {
		p.forgetLocked(now)
	}
	p.of[who] = append(recent, now)
	return time.Time{}, true
}

// withdraw takes back an attempt that did not fail.
func (p *proofs) withdraw(who proven) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if made := p.of[who]; len(made) > 0 {
		p.of[who] = made[:len(made)-1]
	}
}

// forgetLocked makes room: of those that count no longer, or else of any.
func (p *proofs) forgetLocked(now time.Time) {
	for who, made := range p.of {
		if len(since(made, now.Add(-proofWindow))) == 0 {
			delete(p.of, who)
		}
	}
	for who := range p.of {
		if len(p.of) < maxProven {
			return
		}
		delete(p.of, who)
	}
}

// since returns those of the times, in order, that are after from.
func since(times []time.Time, from time.Time) []time.Time {
	var recent []time.Time
	for _, t := range times {
		if t.After(from) {
			recent = append(recent, t)
		}
	}
	return recent
}

// ProveRefused logs in with what the server must refuse, and returns the SQLSTATE with
// which it does. The error wraps rotation.ErrUnproven when that is left out. What names
// the password.
func (p *Client) ProveRefused(ctx context.Context, at Server, l Login, what string) (string, error) {
	if at.Config.LeaveUnproven {
		return "", fmt.Errorf("%w: prove_refusals is false on the connection", rotation.ErrUnproven)
	}
	who := proven{at.endpoint.String(), l.Username}
	if last, allowed := p.proofs.begin(who, p.Now()); !allowed {
		return "", fmt.Errorf("%w: the engine did not try again as %q, because it makes at most %d logins an hour that fail on purpose; the server refused the last one at %s",
			rotation.ErrUnproven, l.Username, maxProofs, last.UTC().Format(time.RFC3339))
	}
	code, err := at.refusal(ctx, l, what)
	if err != nil {
		p.proofs.withdraw(who)
	}
	return code, err
}
