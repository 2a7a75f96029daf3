package testenv

import (
	"bytes"
	"slices"
)

// maxPattern bounds a trigger's pattern, in bytes.
const maxPattern = 256

// Effect is what a Trigger does when it fires.
type Effect int

// What a Trigger does, to its own connection or to all of the proxy's.
const (
	CutConnection   Effect = iota // Reset, of this connection
	CutAll                        // Cut
	StallConnection               // Stall, of this connection
	StallAll                      // Stall
)

// Trigger disturbs a PostgreSQL connection (without TLS) at one point: when a
// client sends bytes that contain a pattern. It fires once, for whichever
// connection comes first.
type Trigger struct {
	proxy   *Proxy
	pattern []byte
	after   bool
	effect  Effect
	fired   chan struct{}
}

// CutBefore resets the connection on which a client sends the pattern, and the
// server does not get it. What came before the pattern has been passed on.
func (p *Proxy) CutBefore(pattern string) *Trigger { return p.Before(pattern, CutConnection) }

// CutAfter lets the pattern through and the server answer it, and then resets
// the connection instead of passing the answer on. So the client can't know
// what the server did. See After.
func (p *Proxy) CutAfter(pattern string) *Trigger { return p.After(pattern, CutConnection) }

// StallBefore freezes the connection on which a client sends the pattern, and
// the server does not get it until Heal.
func (p *Proxy) StallBefore(pattern string) *Trigger { return p.Before(pattern, StallConnection) }

// StallAfter lets the pattern through and the server answer it, and then
// freezes the connection: the answer comes after Heal.
func (p *Proxy) StallAfter(pattern string) *Trigger { return p.After(pattern, StallConnection) }

// Before arms a trigger that fires when the pattern comes, before it is passed
// on. A pattern split over two reads is passed on up to the split, which
// PostgreSQL takes for half a message and does not act on.
func (p *Proxy) Before(pattern string, effect Effect) *Trigger {
	return p.arm(&Trigger{pattern: []byte(pattern), effect: effect})
}

// After arms a trigger that lets the pattern through and fires when the server
// has answered what it was in: a statement that it has completed or refused,
// or, for a pattern in a startup message such as "user\x00app", a login. The
// answer to a mere Parse of a statement does not count. If the connection ends
// before that, the trigger never fires.
func (p *Proxy) After(pattern string, effect Effect) *Trigger {
	return p.arm(&Trigger{pattern: []byte(pattern), effect: effect, after: true})
}

func (p *Proxy) arm(t *Trigger) *Trigger {
	if len(t.pattern) == 0 || len(t.pattern) > maxPattern {
		panic("testenv: a pattern must have 1 to 256 bytes")
	}
	t.proxy, t.fired = p, make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.triggers = append(p.triggers, t)
	return t
}

// Fired is closed when the trigger has fired and done what it does.
func (t *Trigger) Fired() <-chan struct{} { return t.fired }

// Disarm makes sure that the trigger does not fire any more, unless it has met
// its pattern already. A second call does nothing.
func (t *Trigger) Disarm() {
	t.proxy.mu.Lock()
	defer t.proxy.mu.Unlock()
	t.proxy.disarmLocked(t)
}

func (p *Proxy) disarmLocked(t *Trigger) {
	p.triggers = slices.DeleteFunc(p.triggers, func(other *Trigger) bool { return other == t })
}

// meet returns the armed trigger whose pattern comes first in data, and where
// it begins there: 0 if it began in what was sent before. The trigger is
// disarmed; one that is to fire later is noted on the link, before the server
// can answer.
func (p *Proxy) meet(l *link, data []byte) (found *Trigger, at int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.triggers {
		if i := find(l.seen, data, t.pattern); i >= 0 && (found == nil || i < at) {
			found, at = t, i
		}
	}
	if found == nil {
		return nil, 0
	}
	p.disarmLocked(found)
	if found.after {
		l.awaited = found
	}
	return found, at
}

// find returns where in data the pattern begins, 0 if it began in what was
// seen before, and -1 if it is not there or ended before.
func find(seen, data, pattern []byte) int {
	seen = seen[max(0, len(seen)-len(pattern)+1):]
	i := bytes.Index(slices.Concat(seen, data), pattern)
	if i < 0 {
		return -1
	}
	return max(0, i-len(seen))
}

// fire does what the trigger does, waits for the end of it, and reports false
// if the link is to end.
func (l *link) fire(t *Trigger) bool {
	p := l.proxy
	p.mu.Lock()
	switch t.effect {
	case CutConnection:
		l.resetLocked()
	case CutAll:
		p.setFaultLocked(cut)
	case StallConnection:
		l.frozen = true
	case StallAll:
		p.setFaultLocked(stalled)
	}
	p.mu.Unlock()
	close(t.fired)
	return l.gate()
}
