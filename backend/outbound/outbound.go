// Package outbound is how the engine makes HTTP requests: where the administrator
// of the mount lets them go, with certificates checked, and with errors that quote
// nothing of what was sent or answered.
//
// A Rule decides. It is asked when an address is written, and again at each request
// and each connection, because configuration and DNS change meanwhile.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
)

// CheckURL says what is wrong with an address.
func CheckURL(address string) error {
	_, err := parse(address)
	return err
}

// CheckCA says what is wrong with a PEM bundle; an empty one is the system's.
func CheckCA(ca string) error {
	_, err := pool(ca)
	return err
}

func pool(ca string) (*x509.CertPool, error) {
	if ca == "" {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, errors.New("has no PEM block of a certificate: give the text of the file, for example with tls_ca=@ca.pem")
	}
	return roots, nil
}

// Refusal says why the engine does not send something. It stays until somebody
// changes the configuration, the address, or what a name resolves to.
type Refusal struct{ text string }

// Error implements error.
func (r *Refusal) Error() string { return r.text }

func refusal(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// Reason says why there is no answer. Other errors of net/http may quote it.
func Reason(err error) error {
	var refused *Refusal
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &certificate):
		return errors.New("no answer: tls: " + certificateReason(certificate))
	case errors.As(err, &op):
		return fmt.Errorf("no answer: %w", op)
	}
	return errors.New("no answer, or one that is not HTTP")
}

// certificateReason says what is wrong with a certificate, in words of its own: in those
// of crypto/x509 are names that the other side has chosen.
func certificateReason(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "the certificate is signed by an unknown authority"
	case errors.As(err, &name):
		return "the certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired, or is not valid yet"
	}
	return "the certificate is not valid"
}

// Host leaves out all of an address that may be secret: that of a chat has its
// token in the path.
func Host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
