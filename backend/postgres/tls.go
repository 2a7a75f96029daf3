package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// tlsConfig returns nil for sslmode disable. Nothing is read from files or the
// environment.
func (c Config) tlsConfig(e Endpoint) (*tls.Config, error) {
	if e.SSLMode == "disable" {
		if c.TLSCA+c.TLSCertificate+c.TLSKey+c.TLSServerName != "" {
			return nil, rotation.Invalid("sslmode", "disable leaves the tls_ fields without effect: leave them out, or use sslmode=verify-full")
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLSServerName}
	if config.ServerName == "" {
		config.ServerName = e.Addresses[0].Host
	} else if _, err := checkHost("tls_server_name", c.TLSServerName); err != nil {
		return nil, err
	}
	var err error
	if config.RootCAs, err = parseCA(c.TLSCA); err != nil {
		return nil, err
	}
	if config.Certificates, err = parseKeyPair(c.TLSCertificate, c.TLSKey); err != nil {
		return nil, err
	}
	if e.SSLMode != "verify-full" {
		config.InsecureSkipVerify = true // the name; verifyChain checks the rest
	}
	if e.SSLMode == "verify-ca" || (e.SSLMode == "require" && c.TLSCA != "") {
		config.VerifyConnection = verifyChain(config.RootCAs)
	}
	return config, nil
}

// parseCA returns nil, which means the system's, for no text. Everything in the
// text must be a certificate: a truncated bundle is an error, not a smaller one.
func parseCA(text string) (*x509.CertPool, error) {
	if text == "" {
		return nil, nil
	}
	pool, rest := x509.NewCertPool(), []byte(text)
	for strings.TrimSpace(string(rest)) != "" {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, rotation.Invalid("tls_ca", "is not a sequence of PEM blocks of type CERTIFICATE: give the text of the file, for example with tls_ca=@ca.pem")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, rotation.Invalid("tls_ca", "has a PEM block that is no valid certificate")
		}
		pool.AddCert(certificate)
	}
	return pool, nil
}

func parseKeyPair(certificate, key string) ([]tls.Certificate, error) {
	if certificate == "" && key == "" {
		return nil, nil
	}
	if certificate == "" || key == "" {
		return nil, rotation.Invalid("tls_certificate", "and tls_key go together: give both or none")
	}
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		return nil, rotation.Invalid("tls_certificate", "and tls_key are not a PEM certificate and its private key")
	}
	return []tls.Certificate{pair}, nil
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
