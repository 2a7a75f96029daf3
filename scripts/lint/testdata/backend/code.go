package backend // want revive

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
)

// errBad is compared in the wrong way below.
var errBad = errors.New("bad")

func Undocumented() {} // want revive

// Compared compares errors without unwrapping.
func Compared(err error) bool {
	return err == errBad // want errorlint
}

// Swallowed loses an error.
func Swallowed() error {
	_, err := os.Stat("/")
	if err != nil {
		return nil // want nilerr
	}
	return err
}

// Opened is readable by everybody.
func Opened() error {
	return os.WriteFile("file", nil, 0o666) // want gosec
}

// Unclosed leaks a body.
func Unclosed(client *http.Client, r *http.Request) (int, error) {
	answer, err := client.Do(r) // want bodyclose
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, nil
}

// Doubled passes on a number that is not used.
func Doubled(n int) int { return double(n, 1) }

func double(n, ignored int) int { // want unparam
	for range 2 {
		n += n
	}
	return n
}

// Converted converts a string to a string.
func Converted(s string) string {
	return string(s) // want unconvert
}

// Misspelled is recieved wrongly. // want misspell
func Misspelled() {}

// Forgetful drops its context.
func Forgetful(ctx context.Context) error {
	return remembers(context.Background()) // want contextcheck
}

func remembers(ctx context.Context) error {
	return ctx.Err()
}

// Endless runs a command without a context.
func Endless() error {
	return exec.Command("true").Run() // want noctx
}

// Ignored does not look at an error.
func Ignored(c io.Closer) {
	c.Close() // want errcheck
}

// Wasted assigns in vain.
func Wasted() int {
	n := 1 // want ineffassign
	n = 2
	return n
}

// Same compares a value with itself.
func Same(n int) bool {
	return n == n // want staticcheck
}

// Copied copies a lock.
func Copied(lock sync.Mutex) { // want govet
	lock.Lock()
	defer lock.Unlock()
}

func unused() {} // want unused
