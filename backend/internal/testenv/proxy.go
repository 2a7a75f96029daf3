package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Proxy passes TCP connections on to a server until it is told to disturb
// them. It runs in this process, until Stop.
type Proxy struct {
	// Host and Port are where it listens.
	Host string
	Port int

	target string
	origin func(net.Conn) string // names who connects, and "" is not served; nil: nobody has a name

	mu       sync.Mutex
	changed  *sync.Cond // any of what follows has
	listener net.Listener
	fault    fault
	from     map[string]fault // for connections by their origin's name
	links    map[*link]struct{}
	triggers []*Trigger
	stopped  bool

	running sync.WaitGroup
}

// fault is what is wrong with a connection; of two, the higher one counts.
type fault int

const (
	healthy fault = iota
	stalled
	cut
)

// StartProxy starts a proxy for the server at target, a "host:port", which
// need not run yet.
func StartProxy(ctx context.Context, target string) (*Proxy, error) {
	return startProxy(ctx, target, nil)
}

func startProxy(ctx context.Context, target string, origin func(net.Conn) string) (*Proxy, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		Host: "127.0.0.1", Port: port, target: target, origin: origin,
		from: map[string]fault{}, links: map[*link]struct{}{},
	}
	p.changed = sync.NewCond(&p.mu)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.listenLocked(); err != nil {
		return nil, err
	}
	return p, nil
}

// Address is where it listens, as "host:port".
func (p *Proxy) Address() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// URL returns a URL of the target, such as a DSN, with the proxy's address in
// place of the target's.
func (p *Proxy) URL(target string) string { return strings.ReplaceAll(target, p.target, p.Address()) }

// Cut resets all connections and refuses new ones until Heal, as a server that
// is not there.
func (p *Proxy) Cut() { p.setFault(cut) }

// Stall freezes all connections, both ways, until Heal. New ones are accepted,
// and frozen too. It is what a client sees of a network that loses everything.
func (p *Proxy) Stall() { p.setFault(stalled) }

func (p *Proxy) setFault(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setFaultLocked(f)
}

// setFaultLocked makes a fault of all connections, or leaves a worse one.
func (p *Proxy) setFaultLocked(f fault) {
	p.fault = max(p.fault, f)
	if f == cut {
		p.listener.Close() //nolint:errcheck // what is to be closed is the port
		p.resetLocked(func(*link) bool { return true })
	}
}

// Reset resets the connections there are, with a TCP reset to the client. It
// leaves new ones alone.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resetLocked(func(*link) bool { return true })
}

// Heal ends Cut and Stall, and what triggers have done. Connections that were
// frozen go on with nothing lost. Triggers that have not fired stay armed.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return errors.New("heal proxy: it is stopped")
	}
	refused := p.fault == cut
	p.fault = healthy
	clear(p.from)
	for l := range p.links {
		l.frozen = false
	}
	p.changed.Broadcast()
	if refused {
		return p.listenLocked()
	}
	return nil
}

// Connections returns how many connections there are.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Stop ends all connections and stops listening. A second call does nothing.
// It is safe on a nil proxy.
func (p *Proxy) Stop() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	p.stopped = true
	p.setFaultLocked(cut)
	p.mu.Unlock()
	p.running.Wait()
	return nil
}

// setFrom makes a fault, or none, of connections from the named origin.
func (p *Proxy) setFrom(name string, f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from[name] = f
	if f == cut {
		p.resetLocked(func(l *link) bool { return l.origin == name })
	}
	p.changed.Broadcast()
}

// resetLocked resets the connections that are chosen.
func (p *Proxy) resetLocked(chosen func(*link) bool) {
	for l := range p.links {
		if chosen(l) {
			l.resetLocked()
		}
	}
	p.changed.Broadcast()
}

// listenLocked opens the port and serves it.
func (p *Proxy) listenLocked() error {
	l, err := net.Listen("tcp", p.Address()) //nolint:noctx // takes no time
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	p.listener = l
	p.running.Go(func() { p.accept(l) })
	return nil
}

// accept serves the connections that come to a listener until that is closed.
func (p *Proxy) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(conn.(*net.TCPConn)) }) //nolint:errcheck // it listens to TCP
	}
}

// serve passes a client's connection on for as long as that lasts.
func (p *Proxy) serve(client *net.TCPConn) {
	l := &link{proxy: p, client: client}
	if p.origin != nil {
		if l.origin = p.origin(client); l.origin == "" {
			l.reset()
			return
		}
	}
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}
