package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// reduced is reduce for an error that may have been reduced before.
func reduced(err error) error {
	if already := (*serverError)(nil); errors.As(err, &already) {
		return already
	}
	return reduce(err)
}

// isCode reports whether the server answered err with that SQLSTATE.
func isCode(err error, code string) bool {
	return err != nil && CodeOf(reduced(err)) == code
}

// The SQLSTATEs on which something depends here
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	codeInvalidPassword       = "28P01"
	codeInvalidAuthorization  = "28000"
	CodeInsufficientPrivilege = "42501"
	codeReadOnly              = "25006"
	codeUndefinedObject       = "42704"
	// codeInternalError also stands for what is no SQLSTATE: only a hostile server sends
	// that, and it could be anything.
	codeInternalError = "XX000"
)

var sqlstate = regexp.MustCompile(`^[0-9A-Z]{5}$`)

// serverError is what is left of an error of pgx after everything that may hold
// a secret was taken out. The original is not wrapped, so that nothing can dig
// it out again: its Detail, Hint, Where and InternalQuery quote statements, and
// a connect error carries the whole configuration.
type serverError struct {
	// code is the SQLSTATE, empty when it was not the server that answered.
	code string
	text string
	// refused says that the answer was to a login, which was turned down because of
	// who asks.
	refused bool
	// cause is context.Canceled or ErrUncertain where that is why, so that callers can
	// tell.
	cause error
}

func (e *serverError) Error() string { return e.text }

// Unwrap lets callers tell a call that was ended from one that failed.
func (e *serverError) Unwrap() error { return e.cause }

// CodeOf returns the SQLSTATE in err, or "".
func CodeOf(err error) string {
	var e *serverError
	if errors.As(err, &e) {
		return e.code
	}
	return ""
}

// temporary lists the classes of SQLSTATEs which say something about the server
// at this moment and nothing about the statement: connection exception,
// transaction rollback, insufficient resources, object not in prerequisite state
// (locks), operator intervention (shutdown, timeout), system and internal error.
var temporary = []string{"08", "40", "53", "55", "57", "58", "XX"}

// RefusedStatement wraps rotation.ErrRefused around the SQLSTATE that the server
// answered to a statement of the operator, unless the answer may be another one a
// moment later.
func RefusedStatement(err error) error {
	err = WithoutMessage(err)
	code := CodeOf(err)
	if len(code) != 5 || slices.Contains(temporary, code[:2]) {
		return err
	}
	return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
}

// reduce takes from an error of pgx what may be shown: the server's own message
// and its SQLSTATE, or the kind of network problem. The secrets, and their forms
// as SQL literals, are replaced wherever they occur.
func reduce(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	return reduceAnswer(err, secrets...)
}

// reduceAnswer is reduce for an error that there is.
func reduceAnswer(err error, secrets ...string) *serverError {
	var answer *pgconn.PgError
	switch {
	case errors.As(err, &answer):
		text, code := oneLine(redact(answer.Message, secrets)), answer.Code
		if !sqlstate.MatchString(code) {
			code = codeInternalError
		}
		return &serverError{code: code, text: fmt.Sprintf("%s (SQLSTATE %s)", text, code)}
	case errors.Is(err, context.Canceled):
		return &serverError{text: context.Canceled.Error(), cause: context.Canceled}
	}
	return &serverError{text: oneLine(redact(networkReason(err), secrets))}
}

// networkReason names what went wrong below PostgreSQL's protocol.
func networkReason(err error) string {
	var (
		dns     *net.DNSError
		invalid *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		op      *net.OpError
		timeout interface{ Timeout() bool }
		sent    hostileError
	)
	switch {
	case errors.As(err, &dns):
		return "the host name cannot be resolved: " + dns.Err
	case errors.As(err, &invalid) || isCertificate(err):
		return certificateReason(err)
	case errors.As(err, &alert):
		return "TLS: the server answered: " + alert.Error()
	case errors.As(err, &record):
		return "TLS: the answer of the server is not TLS"
	case errors.As(err, &sent):
		return sent.Error()
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "the server offers no TLS: turn ssl on in its postgresql.conf; set sslmode=disable only on a trusted network"
	case strings.Contains(err.Error(), "require_auth"):
		return methodReason(err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time, or from something that is no PostgreSQL"
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	}
	return "the connection was lost, or the engine did not understand the answer"
}

// methodReason names what the server asked for instead of SCRAM.
func methodReason(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "did not complete"):
		return "the server lets this user in without asking for a password, so a login proves nothing: its pg_hba.conf trusts this user; write scram-sha-256 there"
	case strings.Contains(text, "requested md5"):
		return "the server asks for MD5, from which the password can be guessed: this user's password is stored as MD5, or the user has none. Set password_encryption = 'scram-sha-256' in its postgresql.conf, and set the password again; in PgBouncer, auth_type = scram-sha-256"
	case strings.Contains(text, "requested password"):
		return "the server asks for the password in clear text: use scram-sha-256 in its pg_hba.conf, or set password_authentication=password"
	}
	return "the server asks for another method than a password: use scram-sha-256 in its pg_hba.conf"
}

// isCertificate recognizes what verifyChain returns.
func isCertificate(err error) bool {
	var (
		authority x509.UnknownAuthorityError
		expired   x509.CertificateInvalidError
	)
	return errors.As(err, &authority) || errors.As(err, &expired)
}

func certificateReason(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		expired   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return "TLS: the server's certificate is signed by an unknown authority: tls_ca has to contain the certificate of the CA that issued it, and contains none or another one"
	case errors.As(err, &name):
		return "TLS: the server's certificate is for another name: use that name as host, or give it in tls_server_name"
	case errors.As(err, &expired):
		return "TLS: the server's certificate is not valid: " + expired.Error()
	}
	return "TLS: the server's certificate is not valid"
}

// redact replaces every secret in text, and every secret as it stands within an
// SQL literal.
func redact(text string, secrets []string) string {
	for _, secret := range secrets {
		for _, form := range []string{secret, prepare(secret), literalBody(secret)} {
			if form != "" {
				text = strings.ReplaceAll(text, form, rotation.Redacted)
			}
		}
	}
	return text
}

// oneLine keeps a message of a server from forging log lines or filling them, and from
// looking like another one.
func oneLine(text string) string {
	const longest = 400
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return text
}
