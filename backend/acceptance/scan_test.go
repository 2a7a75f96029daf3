package acceptance

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// seen holds every secret value that any test has read, sent or made.
var seen = struct {
	sync.Mutex
	values map[string]bool
}{values: map[string]bool{}}

// shortest is how long a value must be for its finding to be no accident, longest
// how much of it is searched for.
const shortest, longest = 8, 200

// remember notes a secret. The end of a long one stands for all of it.
func remember(value string) {
	value = value[max(0, len(value)-longest):]
	seen.Lock()
	defer seen.Unlock()
	if len(value) >= shortest {
		seen.values[value] = true
	}
}

// rememberServers notes what the servers themselves are opened with, so that
// there is something to search for whatever the tests do.
func rememberServers(v *testenv.Vault, pg *testenv.Postgres) {
	for _, secret := range []string{v.RootToken, v.UnsealKey, pg.Password} {
		remember(secret)
	}
}

// scanned adds up what was searched, over all servers.
var scanned struct {
	sync.Mutex
	bytes, servers int
}

// scanner finds any of many secrets in a text, in one pass over it: by their
// first eight bytes, and only then as a whole.
type scanner struct {
	hashes [1 << 16]bool
	forms  map[uint64][]string
}

// newScanner knows all secrets seen so far, as they are and as they would stand
// in JSON, in a URL, and encoded.
func newScanner() *scanner {
	seen.Lock()
	defer seen.Unlock()
	s := &scanner{forms: map[uint64][]string{}}
	for value := range seen.values {
		quoted, _ := json.Marshal(value)
		for _, form := range []string{
			value, strings.Trim(string(quoted), `"`), url.QueryEscape(value), url.PathEscape(value),
			base64.StdEncoding.EncodeToString([]byte(value)),
		} {
			s.add(form)
		}
	}
	return s
}

func (s *scanner) add(form string) {
	head := binary.LittleEndian.Uint64([]byte(form))
	for _, known := range s.forms[head] {
		if known == form {
			return
		}
	}
	s.hashes[hash16(head)] = true
	s.forms[head] = append(s.forms[head], form)
}

func hash16(head uint64) uint16 { return uint16(head * 0x9E3779B97F4A7C15 >> 48) } //nolint:gosec // 16 bits are left

// find returns where secrets stand in a text, but not which. It looks at every byte of
// all logs, and at nothing that another goroutine changes: without the race detector it
// takes a fifteenth of the time.
//
//go:norace
func (s *scanner) find(text []byte) []int {
	var places []int
	for i := 0; i+shortest <= len(text); i++ {
		head := binary.LittleEndian.Uint64(text[i:])
		if !s.hashes[hash16(head)] {
			continue
		}
		for _, form := range s.forms[head] {
			if len(text)-i >= len(form) && string(text[i:i+len(form)]) == form {
				places = append(places, i)
			}
		}
	}
	return places
}

// report says where secrets stand in a text, and what stands before each.
func (s *scanner) report(where string, text []byte) []string {
	var wrong []string
	for _, at := range s.find(text) {
		wrong = append(wrong, fmt.Sprintf("a secret stands in %s at byte %d, after %q", where, at, text[max(0, at-200):at]))
	}
	return wrong
}

// complaints are what no server may have to say, whatever is done to it.
var complaints = []string{"DATA RACE", "panic", "internal error in", "fatal error:"}

// inspect searches everything that two servers wrote, and what Vault and the
// plugin were started with, and says what is wrong.
func inspect(v *testenv.Vault, pg *testenv.Postgres) []string {
	s, total := newScanner(), 0
	var wrong []string
	search := func(where string, text []byte, err error) {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		total += len(text)
		wrong = append(wrong, s.report(where, text)...)
	}
	for _, path := range []string{v.LogPath, v.AuditLogPath, pg.LogPath} {
		text, err := os.ReadFile(path)
		if path == v.AuditLogPath && errors.Is(err, fs.ErrNotExist) {
			continue // a node that was always a standby
		}
		search(path, text, err)
		wrong = append(wrong, complain(path, string(text))...)
	}
	for _, pid := range append(v.PluginPIDs(), v.PID()) {
		for _, name := range []string{"cmdline", "environ"} {
			path := filepath.Join("/proc", strconv.Itoa(pid), name)
			if text, err := os.ReadFile(path); err == nil { // else it has ended
				search(path, text, nil)
			}
		}
	}
	scanned.Lock()
	defer scanned.Unlock()
	scanned.bytes, scanned.servers = scanned.bytes+total, scanned.servers+1
	return wrong
}

func complain(path, log string) []string {
	var wrong []string
	for _, words := range complaints {
		if at := strings.Index(log, words); at >= 0 {
			wrong = append(wrong, fmt.Sprintf("%s says:\n%s", path, log[at:min(len(log), at+4000)]))
		}
	}
	return wrong
}

// inspectAfter inspects a test's own servers before they are stopped.
func inspectAfter(t *testing.T, v *testenv.Vault, pg *testenv.Postgres) {
	t.Cleanup(func() {
		for _, wrong := range inspect(v, pg) {
			t.Error(wrong)
		}
	})
}

// TestScanner plants secrets, so that a search that finds nothing means something.
func TestScanner(t *testing.T) {
	t.Parallel()
	remember("planted \"secret\"/1+2")
	s := newScanner()
	for _, text := range []string{
		`planted "secret"/1+2`, `{"x":"planted \"secret\"/1+2"}`, `planted+%22secret%22%2F1%2B2`, "cGxhbnRlZCAic2VjcmV0Ii8xKzI=",
	} {
		if got := s.find([]byte("before " + text + " after")); len(got) == 0 {
			t.Errorf("a secret is not found in %s", text)
		}
	}
	if got := s.find([]byte(`planted "secret"/1+3, planted`)); len(got) != 0 {
		t.Error("a secret is found where none is")
	}
}
