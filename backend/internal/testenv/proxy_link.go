package testenv

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialTimeout bounds a proxy's connection to its target, which is local.
const dialTimeout = 5 * time.Second

// link is one connection through a proxy.
type link struct {
	proxy  *Proxy
	origin string
	client *net.TCPConn

	// Guarded by the proxy's mu.
	server  *net.TCPConn
	frozen  bool
	closed  bool
	awaited *Trigger // let through, to fire at the server's answer

	// The client's side alone: whether it has got beyond asking for TLS, and
	// the last bytes that were passed on.
	opened bool
	seen   []byte

	// Set by the client's side for the server's: how its answers look.
	postgres atomic.Bool
	bytes    atomic.Int32 // how many of a single byte are to come
}

// run passes everything on until one side ends or the link is reset.
func (l *link) run() {
	defer l.close()
	if !l.gate() {
		return
	}
	server, err := net.DialTimeout("tcp", l.proxy.target, dialTimeout) //nolint:noctx // it has a timeout
	if err != nil || !l.connected(server.(*net.TCPConn)) {             //nolint:errcheck // it is one
		l.reset()
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		defer l.close()
		l.passAnswers()
	})
	l.passRequests()
	l.close()
	answers.Wait()
}

// connected notes the connection to the server, and reports false if the link
// was closed meanwhile.
func (l *link) connected(server *net.TCPConn) bool {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.server = server
	if l.closed {
		server.Close() //nolint:errcheck // nothing was sent
	}
	return !l.closed
}

// gate waits while the link is frozen, and reports false if it is to end.
func (l *link) gate() bool {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	for !l.closed {
		f := max(p.fault, p.from[l.origin])
		if f == cut {
			l.resetLocked()
		} else if f == healthy && !l.frozen {
			return true
		} else {
			p.changed.Wait()
		}
	}
	return false
}

// passRequests passes on what the client sends, until the link ends.
func (l *link) passRequests() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buffer)
		if n > 0 && !l.request(buffer[:n]) || err != nil {
			return
		}
	}
}

// request passes on one piece of what the client sends, and acts on the
// trigger that it meets. It reports false if the link is to end.
func (l *link) request(data []byte) bool {
	l.open(data)
	t, at := l.proxy.meet(l, data)
	if t != nil && !t.after {
		if !l.pass(data[:at]) || !l.fire(t) {
			return false
		}
		data = data[at:]
	}
	return l.pass(data)
}

// pass sends data to the server as soon as the link is not frozen.
func (l *link) pass(data []byte) bool {
	if !l.gate() {
		return false
	}
	l.seen = append(l.seen, data...)
	l.seen = l.seen[max(0, len(l.seen)-maxPattern):]
	_, err := l.server.Write(data)
	return err == nil
}

// close ends both connections in order.
func (l *link) close() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.closeLocked()
}

// reset ends the client's connection with a TCP reset.
func (l *link) reset() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.resetLocked()
}

func (l *link) resetLocked() {
	if !l.closed {
		l.client.SetLinger(0) //nolint:errcheck // it may be gone
		l.closeLocked()
	}
}

func (l *link) closeLocked() {
	if l.closed {
		return
	}
	l.closed = true
	l.client.Close() //nolint:errcheck // it may be gone
	if l.server != nil {
		l.server.Close() //nolint:errcheck // it may be gone
	}
	l.proxy.changed.Broadcast()
}
