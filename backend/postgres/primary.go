package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// primaries remembers which of several hosts was the primary when that was last seen,
// by the text of their endpoint. It is a hint for where to look first, and tells a
// refusal by the primary from one by a standby that lags.
var primaries sync.Map

func primaryOf(e Endpoint) *atomic.Pointer[Address] {
	known, _ := primaries.LoadOrStore(e.String(), &atomic.Pointer[Address]{})
	return known.(*atomic.Pointer[Address])
}

// chooses reports whether only the primary will do of the hosts there are.
func (s Server) chooses() bool { return s.endpoint.TargetSessionAttrs != "" }

// find logs in as l, where there are several hosts at the one that is the primary, and
// returns which that is. Its errors are of pgx, or reduced.
func (s Server) find(ctx context.Context, l Login) (*pgx.Conn, Address, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Config.ConnectTimeout)
	defer cancel()
	if !s.chooses() {
		at := s.endpoint.Addresses[0]
		conn, err := s.loginAt(ctx, l, at)
		return conn, at, err
	}
	known, hosts := s.primary.Load(), s.byHope()
	failed := make([]error, len(hosts))
	for i, at := range hosts {
		limited, cancel := share(ctx, len(hosts)-i)
		conn, err := s.loginAsPrimary(limited, l, at)
		cancel()
		if err == nil {
			s.primary.Store(&at)
			return conn, at, nil
		}
		failed[i] = answerTo(l, err)
		if LoginRefused(failed[i]) && known != nil && at == *known || errors.Is(failed[i], context.Canceled) {
			return nil, at, failed[i]
		}
	}
	return nil, Address{}, nowhere(hosts, failed)
}

// byHope are the hosts, the one that was the primary first.
func (s Server) byHope() []Address {
	hosts := slices.Clone(s.endpoint.Addresses)
	known := s.primary.Load()
	if known == nil {
		return hosts
	}
	if i := slices.Index(hosts, *known); i > 0 {
		return slices.Insert(slices.Delete(hosts, i, i+1), 0, *known)
	}
	return hosts
}

// loginAsPrimary is loginAt for a host that may turn out to be a standby.
func (s Server) loginAsPrimary(ctx context.Context, l Login, at Address) (*pgx.Conn, error) {
	conn, err := s.loginAt(ctx, l, at)
	if err != nil {
		return nil, err
	}
	if err := standsBy(ctx, conn); err != nil {
		HangUp(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// standsBy is an error if the server is a standby. SHOW resolves no name, and does not
// depend on settings, as transaction_read_only does.
func standsBy(ctx context.Context, conn *pgx.Conn) error {
	answer, err := conn.PgConn().Exec(ctx, "SHOW in_hot_standby").ReadAll()
	switch {
	case err != nil:
		return err
	case len(answer) != 1 || len(answer[0].Rows) != 1:
		return &serverError{text: "the server does not say whether it is a standby"}
	case string(answer[0].Rows[0][0]) == "on":
		return ErrStandby
	}
	return nil
}

// CheckPrimary has the server of a session answer a query, and is ErrStandby if it is a
// standby: nothing can be changed there.
func CheckPrimary(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	err := standsBy(ctx, conn)
	if already := (*serverError)(nil); errors.As(err, &already) {
		return err
	}
	return reduce(err)
}

// ErrStandby is why a host will not do.
var ErrStandby error = &serverError{text: "the server is a standby"}

// nowhere is the error when no host is a primary that lets somebody in. That the login
// is refused is certain only if each of the hosts answered: one that did not may be the
// primary, and what a standby refuses may be a password that it was not told of yet.
func nowhere(hosts []Address, failed []error) error {
	var refused error
	certain := true
	texts := make([]string, len(hosts))
	for i, err := range failed {
		texts[i] = fmt.Sprintf("%s: %v", hosts[i], err)
		switch {
		case LoginRefused(err):
			refused = err
		case !errors.Is(err, ErrStandby):
			certain = false
		}
	}
	text := "no host is a primary that accepts the login: " + strings.Join(texts, "; ")
	if refused != nil && certain {
		return &serverError{code: CodeOf(refused), text: text, refused: true}
	}
	if refused != nil {
		return &serverError{text: text, cause: ErrUncertain}
	}
	return &serverError{text: text}
}

// ErrUncertain says that a login was refused by a host that may be no primary, and
// could not be tried on all others.
var ErrUncertain = errors.New("it is not known whether the login is refused")

// aim makes the configuration of a session that is about to begin lead to the primary.
func (s Server) aim(ctx context.Context, c *pgx.ConnConfig, l Login) error {
	if !s.chooses() {
		return nil
	}
	conn, at, err := s.find(ctx, l)
	if err != nil {
		return err
	}
	HangUp(ctx, conn)
	s.direct(c, at)
	return nil
}
