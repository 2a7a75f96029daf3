package postgres

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// maxMessage in bytes is what one message of a server may have: a row that a
	// verification statement reads, or the list of 20,000 privileges. As much is
	// allocated as soon as a server announces it.
	maxMessage = 8 << 20
	// maxSmall in bytes is for messages until the login has succeeded, and for what
	// this side keeps as long as the connection is open. PostgreSQL's have less than
	// one thousand.
	maxSmall = 64 << 10
	// maxParameters is how many settings a server may report by name; PostgreSQL has
	// twenty or so that it reports.
	maxParameters = 200
	// maxIterations is how many rounds of SCRAM a server may ask for. It takes this
	// side a second or less, in which nothing can interrupt it. PostgreSQL's default
	// is 4,096.
	maxIterations = 1_000_000
)

// hostileError says what a server sends that no PostgreSQL does.
type hostileError string

func (e hostileError) Error() string {
	return "the server sends something that PostgreSQL never sends: " + string(e)
}

func suspicious(format string, args ...any) error { return hostileError(fmt.Sprintf(format, args...)) }

// buildFrontend makes pgx's side of a connection, which a hostile server can't make
// use up this process's memory or time.
func buildFrontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	return pgproto3.NewFrontend(&guard{r: r, parameters: map[string]bool{}}, w)
}

// guard reads from a server, and ends with an error before pgx sees a message that
// would cost too much.
type guard struct {
	r io.Reader
	// head is what has been read of the type and length of the message; body is what
	// has been read of its content, if that is looked at, and left how much is to come.
	head []byte
	body []byte
	left int
	// accepted says that the login has succeeded.
	accepted   bool
	parameters map[string]bool
	failed     error
}

// The types of messages that are looked at, and of authentication.
const (
	typeAuthentication  = 'R'
	typeParameterStatus = 'S'
	authenticationOK    = 0
	authenticationSCRAM = 11
	headLength          = 5
)

// Read implements io.Reader.
func (g *guard) Read(p []byte) (int, error) {
	if g.failed != nil {
		return 0, g.failed
	}
	n, err := g.r.Read(p)
	if g.failed = g.watch(p[:n]); g.failed != nil {
		return 0, g.failed
	}
	return n, err
}

// watch follows the messages in what was read.
func (g *guard) watch(data []byte) error {
	for len(data) > 0 {
		if len(g.head) < headLength {
			n := min(headLength-len(g.head), len(data))
			g.head, data = append(g.head, data[:n]...), data[n:]
			if len(g.head) < headLength {
				return nil
			}
			if err := g.begin(); err != nil {
				return err
			}
		}
		n := min(g.left, len(data))
		if g.looks() {
			g.body = append(g.body, data[:n]...)
		}
		g.left, data = g.left-n, data[n:]
		if g.left == 0 {
			if err := g.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

// looks reports whether the content of the message is looked at.
func (g *guard) looks() bool {
	return g.head[0] == typeAuthentication || g.head[0] == typeParameterStatus
}

// begin decides by the length that a message has.
func (g *guard) begin() error {
	const own = 4                                                  // the length counts itself
	g.left = int(int32(binary.BigEndian.Uint32(g.head[1:]))) - own //nolint:gosec // a negative one is refused
	limit := maxMessage
	if g.looks() || !g.accepted {
		limit = maxSmall
	}
	if g.left < 0 || g.left > limit {
		return suspicious("a message of %d bytes, above the limit of %d", g.left, limit)
	}
	return nil
}

// end decides by the content of a message that is looked at.
func (g *guard) end() error {
	kind, body := g.head[0], g.body
	g.head, g.body = g.head[:0], g.body[:0]
	switch {
	case kind == typeParameterStatus:
		name, _, _ := strings.Cut(string(body), "\x00")
		g.parameters[name] = true
		if len(g.parameters) > maxParameters {
			return suspicious("more than %d settings", maxParameters)
		}
	case kind == typeAuthentication && len(body) >= 4:
		switch binary.BigEndian.Uint32(body) {
		case authenticationOK:
			g.accepted = true
		case authenticationSCRAM:
			return checkIterations(string(body[4:]))
		}
	}
	return nil
}

// checkIterations looks at what SCRAM calls the server's first message:
// r=<nonce>,s=<salt>,i=<iterations>.
func checkIterations(first string) error {
	parts := strings.SplitN(first, ",", 3)
	n, err := strconv.Atoi(strings.TrimPrefix(parts[len(parts)-1], "i="))
	if err == nil && n > maxIterations {
		return suspicious("%d SCRAM iterations, above the limit of %d; if it is a PostgreSQL, lower its scram_iterations and set the password again", n, maxIterations)
	}
	return nil
}
