package acceptance

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// middle is somebody between a service and its server.
type middle struct {
	host, port string

	mu   sync.Mutex
	said []byte
	done sync.WaitGroup
	stop func()
}

// between has no TLS to offer. With a demand it takes the first message, of who
// wants to log in, and answers that; what comes then is what heard returns.
func between(t *testing.T, demand []byte) *middle {
	t.Helper()
	listener := listen(t, "127.0.0.1")
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	m := &middle{host: host, port: port, stop: func() { _ = listener.Close() }}
	t.Cleanup(m.stop)
	m.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			m.done.Go(func() { m.serve(conn, demand) })
		}
	})
	return m
}

func (m *middle) serve(conn net.Conn, demand []byte) {
	defer conn.Close() //nolint:errcheck // it was read
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	answer := []byte("N")
	if demand != nil {
		answer = demand
	}
	length := make([]byte, 4)
	if _, err := io.ReadFull(conn, length); err != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length))-4); err != nil {
		return
	}
	if _, err := conn.Write(answer); err != nil {
		return
	}
	rest, _ := io.ReadAll(conn)
	// That one hangs up is no secret.
	rest = bytes.TrimSuffix(rest, []byte{'X', 0, 0, 0, 4})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, rest...)
}

// heard ends it, and returns what it was sent after its answer.
func (m *middle) heard() []byte {
	m.stop()
	m.done.Wait()
	return m.said
}

func listen(t *testing.T, host string) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// forward passes connections on, and returns the address that it listens at.
func forward(t *testing.T, host, target string) string {
	t.Helper()
	listener := listen(t, host)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(conn, target)
		}
	}()
	return listener.Addr().String()
}

func pass(conn net.Conn, target string) {
	defer conn.Close() //nolint:errcheck // it was copied
	server, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it was copied
	go func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	}()
	_, _ = io.Copy(conn, server)
}
