package outbound

import (
	"context"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// quiet is for servers whose clients are expected to go away.
var quiet = log.New(io.Discard, "", 0)

// names is a DNS server of the test's own, whose answers change as somebody's do who
// wants to be asked once for one address and then for another.
type names struct {
	mu sync.Mutex
	// answers are given in turn, the last one for ever.
	answers [][]netip.Addr
	asked   int
}

// resolver asks it, and nobody else.
func (n *names) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go n.serve(conn)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// set begins with other answers.
func (n *names) set(answers ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers, n.asked = nil, 0
	for _, text := range answers {
		n.answers = append(n.answers, []netip.Addr{netip.MustParseAddr(text)})
	}
}

func (n *names) serve(conn net.PacketConn) {
	query := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(query)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(n.answer(query[:size]), from)
	}
}

// The types of records.
const (
	typeA    = 1
	typeAAAA = 28
)

// answer is the packet for a query of one name. A name has addresses of both kinds
// in one turn.
func (n *names) answer(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	packet := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end+5]...)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ip := range n.answers[min(n.asked, len(n.answers)-1)] {
		if ip.Is4() != (kind == typeA) || kind != typeA && kind != typeAAAA {
			continue
		}
		packet[7]++
		packet = append(packet, 0xc0, 12)
		packet = binary.BigEndian.AppendUint16(packet, kind)
		packet = append(packet, 0, 1, 0, 0, 0, 0, 0, map[uint16]byte{typeA: 4, typeAAAA: 16}[kind])
		packet = append(packet, ip.AsSlice()...)
	}
	if packet[7] > 0 {
		n.asked++
	}
	return packet
}
