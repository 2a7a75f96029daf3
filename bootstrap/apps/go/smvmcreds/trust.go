package smvmcreds

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// The values of sslmode that the engine answers. Those of libpq that fall back to
// a connection without TLS are not among them.
const (
	sslDisable    = "disable"
	sslRequire    = "require"
	sslVerifyCA   = "verify-ca"
	sslVerifyFull = "verify-full"
)

// trust is what makes a server the right one.
type trust struct {
	mode string
	// roots are the authorities that may vouch for it; nil are the system's.
	roots *x509.CertPool
}

// trust returns what the credentials say. Answers from before sslmode was a field
// have it in connection_string; with neither it is the strictest.
func (c *Credentials) trust(secret string) (trust, error) {
	_, named := c.address(secret)
	t := trust{mode: cmp.Or(c.Value(secret, "sslmode"), named.Get("sslmode"), sslVerifyFull)}
	switch t.mode {
	case sslDisable, sslRequire, sslVerifyCA, sslVerifyFull:
	default:
		return t, fmt.Errorf("%s_sslmode of the credentials is none of disable, require, verify-ca and verify-full", secret)
	}
	var err error
	if t.roots, err = authorities(c.Value(secret, "ssl_root_certificate")); err != nil {
		return t, fmt.Errorf("read %s_ssl_root_certificate: %w", secret, err)
	}
	return t, nil
}

// at returns the configuration for one host, nil for none: if the mode is
// disable, or the host a socket, for which pgx has none either. A client
// certificate of the application's own stays.
func (t trust) at(host string, parsed, own *tls.Config) *tls.Config {
	if t.mode == sslDisable || parsed == nil {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: t.roots, NextProtos: parsed.NextProtos}
	if own != nil {
		config.Certificates, config.GetClientCertificate = own.Certificates, own.GetClientCertificate
	}
	if t.mode != sslVerifyFull {
		config.InsecureSkipVerify = true // the name; verifyChain checks the rest
	}
	// As in libpq, a certificate that was given is used.
	if t.mode == sslVerifyCA || t.mode == sslRequire && t.roots != nil {
		config.VerifyConnection = verifyChain(t.roots)
	}
	return config
}

// authorities reads certificates in PEM; without a text they are the system's,
// for which it returns nil. Between them there may be comments.
func authorities(text string) (*x509.CertPool, error) {
	if text == "" {
		return nil, nil
	}
	pool, block, rest := x509.NewCertPool(), (*pem.Block)(nil), []byte(text)
	for found := false; ; found = true {
		if block, rest = pem.Decode(rest); block == nil && found {
			return pool, nil
		}
		if block == nil {
			return nil, errors.New("it has no certificate in PEM")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, errors.New("it has a PEM block that is no valid certificate")
		}
		pool.AddCert(certificate)
	}
}

// verifyChain checks that the server's certificate descends from roots, but not
// whose name it has.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the server sent no certificate")
		}
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, certificate := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(certificate)
		}
		_, err := state.PeerCertificates[0].Verify(options)
		return err
	}
}
