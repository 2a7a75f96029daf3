// Package outbound is how the engine makes HTTP requests: straight to the address
// it was given, with certificates checked, and with errors that quote nothing of
// what was sent or answered.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Client returns a client that trusts the PEM bundle ca, or the system's if it is
// empty. It uses no proxy and follows no redirect, because both might take what is
// sent elsewhere. The caller closes its idle connections.
func Client(ca string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("has no PEM block of a certificate: give the text of the file, for example with tls_ca=@ca.pem")
		}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 100, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// CheckURL says what is wrong with an address.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("must be like https://orders.example.com/path")
	case u.User != nil:
		return errors.New("has a user name, and addresses are logged; give it as a header")
	case strings.Contains(address, "{{"):
		return errors.New("has a placeholder, and addresses are logged; values go into headers and body only")
	}
	return nil
}

// Reason says why there is no answer. Other errors of net/http may quote it.
func Reason(err error) error {
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &certificate):
		return fmt.Errorf("no answer: %w", certificate)
	case errors.As(err, &op):
		return fmt.Errorf("no answer: %w", op)
	}
	return errors.New("no answer that is HTTP")
}

// Private reports whether nobody on the way to an address can read what is sent
// there: it is encrypted, or stays on this machine.
func Private(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
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
