package testenv

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
)

// sslRequest asks a PostgreSQL for TLS, which answers with an S
// (https://www.postgresql.org/docs/current/protocol-message-formats.html).
var sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}

// NewTLSProxy starts a proxy that ends the TLS of PostgreSQL's clients, with a
// certificate of its own for 127.0.0.1, and begins it again to the server. It returns
// where it listens, and the CA of its certificate. It stops with the test.
func NewTLSProxy(t testing.TB, pg *Postgres) (port int, caPEM string) {
	t.Helper()
	certs, err := newCertificates()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair([]byte(certs.cert), []byte(certs.key))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go passOn(client, pg.Address(), &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port, certs.ca
}

// passOn connects a client to the server, with TLS on both ways. Whatever goes wrong
// ends the connection, of which the client tells.
func passOn(client net.Conn, target string, config *tls.Config) {
	defer client.Close() //nolint:errcheck // it ends
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it ends
	asked, answer := make([]byte, len(sslRequest)), make([]byte, 1)
	_, err = io.ReadFull(client, asked)
	_, sent := server.Write(sslRequest)
	_, read := io.ReadFull(server, answer)
	_, answered := client.Write(answer)
	if errors.Join(err, sent, read, answered) != nil {
		return
	}
	near := tls.Server(client, config)
	far := tls.Client(server, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // what it is sent is the test's
	done := make(chan struct{}, 2)
	for _, way := range [][2]*tls.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}
