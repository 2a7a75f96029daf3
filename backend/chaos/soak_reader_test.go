package chaos

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// How long a reader may be without a login that works, while Vault answers and
// PostgreSQL does too. A single user's password is refused from the moment it is
// replaced until the new one is committed, and so until recovery after a crash.
// Two users are never without one; but a node that was paused may answer, for a
// moment, as if it still were the active one.
const (
	maxSingle      = 90 * time.Second
	maxAlternating = 5 * time.Second
)

// codeRefused is PostgreSQL's answer to a wrong password.
const codeRefused = "28P01"

// useUntil uses the values. When they are refused it does what an application
// does: it reads again, and uses what it gets, until that works.
func (s *soak) useUntil(ctx context.Context, a *soaked, v values) {
	limit, kind := maxSingle, 0
	if a.strategy == alternating {
		limit, kind = maxAlternating, 1
	}
	var first, since time.Time // when it was refused first, and while Vault answered
	for ctx.Err() == nil {
		if s.works(ctx, a, v) {
			s.outage(kind, first)
			return
		}
		next, err := a.values(ctx)
		switch {
		case err != nil:
			since = time.Time{} // Vault fails over; what it says is not known
			continue
		case next.version != v.version:
			s.superseded.Add(1)
			v, since = next, time.Time{}
			continue
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > limit:
			s.unusable.Add(1)
			s.t.Errorf("%s, %s: version %d has been refused for %s", a.id, a.strategy, v.version, time.Since(since))
			return
		}
		if first.IsZero() {
			first = since
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// works reports false when PostgreSQL has refused the login; that it cannot be
// reached says nothing about the values.
func (s *soak) works(ctx context.Context, a *soaked, v values) bool {
	err := a.use(ctx, v.login)
	var refusal *pgconn.PgError
	switch {
	case errors.As(err, &refusal) && refusal.Code == codeRefused:
		return false
	case err != nil:
		return true
	}
	if token, err := v.token(); err != nil || v.accepts(token) != nil || v.apiKey == "" {
		s.unusable.Add(1)
		s.t.Errorf("%s: the keys of version %d: %v", a.id, v.version, err)
		return true
	}
	s.used.Add(1)
	return true
}

// outage notes how long a reader was without a login that works, if it was.
func (s *soak) outage(kind int, since time.Time) {
	if since.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, longest := (outage{since.Sub(s.began), time.Since(s.began)}), s.longest[kind]; o.until-o.from > longest.until-longest.from {
		s.longest[kind] = o
	}
}
