package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/verification"
)

// tree is a copy of the module, which nobody edits meanwhile.
type tree struct {
	dir     string
	passed  *verification.Passed
	verbose bool
}

// newTree copies all but what git and make put there.
func newTree(ctx context.Context, root, dir string) (tree, error) {
	const script = `mkdir "$1" && tar -C "$0" --exclude=./.git --exclude=./bin -c . | tar -C "$1" -x`
	if out, err := exec.CommandContext(ctx, "sh", "-c", script, root, dir).CombinedOutput(); err != nil {
		return tree{}, fmt.Errorf("copy module: %w: %s", err, out)
	}
	return tree{dir: dir}, nil
}

// baseline runs tests on what is not broken, and returns how long they take. Tests that
// fail then prove nothing.
func (t tree) baseline(ctx context.Context, tests string) (time.Duration, error) {
	began := time.Now()
	caughtBy, err := t.test(ctx, tests, 5*time.Minute)
	if err == nil && caughtBy != "" {
		err = fmt.Errorf("%s fails", caughtBy)
	}
	if err != nil {
		return 0, fmt.Errorf("with nothing broken, go test %s: %w", tests, err)
	}
	took := time.Since(began)
	say(took, "go test "+tests, "nothing is broken")
	return took, nil
}

// play breaks the copy, runs the tests that have to notice, mends it again, and notes
// who noticed, and how long the tests usually take. The error is why nothing is known, or
// that no test noticed.
func (t tree) play(ctx context.Context, m mutation, usual time.Duration) error {
	began := time.Now()
	patch, err := m.located(t.dir)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	mend, err := change(ctx, t.dir, patch)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	caughtBy, err := t.test(ctx, m.tests, patience+5*usual)
	switch {
	case ctx.Err() != nil: // what failed may have been ended
		caughtBy, err = "", context.Cause(ctx)
	case err == nil && caughtBy == "":
		err = errors.New("it SURVIVED")
	}
	say(time.Since(began), m.name, cmp.Or(caughtBy, fmt.Sprint(err)))
	if err = errors.Join(err, mend()); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	return t.passed.Add(m.name, caughtBy+"\t"+usual.Round(time.Millisecond).String())
}

// test runs tests, and returns the one that fails first, empty if all pass.
func (t tree) test(ctx context.Context, tests string, timeout time.Duration) (string, error) {
	args := []string{"test", "-count=1", "-failfast", "-trimpath", "-vet=off", "-timeout=" + timeout.String()}
	cmd := exec.CommandContext(ctx, "go", append(args, strings.Fields("./"+tests)...)...)
	cmd.Dir = t.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // the tests too
	cmd.WaitDelay = 10 * time.Second                                                     // for what a dead test leaves behind
	out, err := cmd.CombinedOutput()
	if t.verbose {
		_, _ = os.Stdout.Write(out)
	}
	return judge(string(out), err)
}

var (
	failed  = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+) `)
	crashed = regexp.MustCompile(`(?m)^(?:panic|fatal error): .*$`)
)

// judge says what the output and the exit of go test mean: the test that failed
// first, the innermost, or how the process crashed; or why no test ran.
func judge(out string, err error) (caughtBy string, _ error) {
	switch {
	case err == nil && strings.Contains(out, "no test"):
		return "", errors.New("there is no such test")
	case err == nil:
		return "", nil
	}
	for _, m := range failed.FindAllStringSubmatch(out, -1) {
		if caughtBy == "" || strings.HasPrefix(m[1], caughtBy+"/") {
			caughtBy = m[1]
		}
	}
	if caughtBy == "" {
		caughtBy = crashed.FindString(out)
	}
	if caughtBy == "" {
		return "", fmt.Errorf("no test ran: %w\n%s", err, out)
	}
	return caughtBy, nil
}
