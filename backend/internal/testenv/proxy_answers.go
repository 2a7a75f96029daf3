package testenv

import (
	"bufio"
	"encoding/binary"
	"io"
)

// What a PostgreSQL client's first message is, by the number that follows its
// length: the major version of the protocol, in the upper half, or a question
// that is answered in one byte.
const (
	protocolMajor = 3
	askTLS        = 80877103
	askGSS        = 80877104
)

// open looks at what the client sends first, to know what the server's answers
// will be: PostgreSQL's messages, single bytes, or anything.
func (l *link) open(data []byte) {
	if l.opened || len(data) < 8 {
		return
	}
	switch code := binary.BigEndian.Uint32(data[4:]); code {
	case askTLS, askGSS:
		l.bytes.Add(1)
	default:
		l.opened = true
		l.postgres.Store(code>>16 == protocolMajor)
	}
}

// passAnswers passes on what the server sends, until the link ends. The answer
// that a trigger awaits is held back.
func (l *link) passAnswers() {
	from, to := bufio.NewReader(l.server), bufio.NewWriter(l.client)
	var held []byte
	for {
		answer, err := l.nextAnswer(from)
		if !l.gate() {
			return
		}
		t := l.waiting()
		if t != nil && (held != nil || decisive(answer)) {
			held = append(held, answer...)
			answer = nil
		}
		if held != nil && (err != nil || ready(held)) {
			if !l.fire(t) {
				return
			}
			answer, held = held, nil
			l.answered()
		}
		to.Write(answer) //nolint:errcheck // Flush reports it
		if (err != nil || from.Buffered() == 0) && to.Flush() != nil || err != nil {
			return
		}
	}
}

// nextAnswer reads one message of PostgreSQL's, or whatever else there is.
func (l *link) nextAnswer(from *bufio.Reader) ([]byte, error) {
	if _, err := from.Peek(1); err != nil {
		return nil, err
	}
	length := from.Buffered()
	if l.postgres.Load() && l.bytes.Load() == 0 {
		header, err := from.Peek(5)
		if err != nil {
			return nil, err
		}
		length = 1 + int(binary.BigEndian.Uint32(header[1:]))
	} else if l.bytes.Load() > 0 {
		l.bytes.Add(-1)
		length = 1
	}
	answer := make([]byte, length)
	_, err := io.ReadFull(from, answer)
	return answer, err
}

// decisive reports whether a message tells what became of a request:
// CommandComplete, EmptyQueryResponse, ErrorResponse or AuthenticationOk.
func decisive(message []byte) bool {
	if len(message) == 0 {
		return false
	}
	switch message[0] {
	case 'C', 'I', 'E':
		return true
	case 'R':
		return len(message) == 9 && binary.BigEndian.Uint32(message[5:]) == 0
	}
	return false
}

// ready reports whether messages end with ReadyForQuery, as an answer does.
func ready(messages []byte) bool {
	const length = 6
	return len(messages) >= length && messages[len(messages)-length] == 'Z' &&
		binary.BigEndian.Uint32(messages[len(messages)-5:]) == 5
}

func (l *link) waiting() *Trigger {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	return l.awaited
}

func (l *link) answered() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.awaited = nil
}
