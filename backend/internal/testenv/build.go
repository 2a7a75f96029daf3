package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// modulePath is this module's, as the linker and the compiler know it.
const modulePath = "github.com/smvm/vault-plugin-secrets-smvm"

// BuildOptions says how BuildPlugin and BuildCommand build.
type BuildOptions struct {
	// Race builds with the race detector, which needs a C compiler.
	Race bool
	// Version is what the plugin reports, such as v0.2.0; empty keeps the
	// source's.
	Version string
	// Tags are build tags, separated by commas.
	Tags string
	// Commit is the one to build, in full; empty builds the working tree.
	Commit string
}

// builds remembers what this process has built, because many tests need it.
// The directories stay reachable: a collected one is removed.
var builds = struct {
	mu   sync.Mutex
	dirs map[command]*scratch
}{dirs: map[command]*scratch{}}

// command is one binary: a directory of cmd, and how it is built.
type command struct {
	name string
	opts BuildOptions
}

// BuildPlugin builds the plugin and returns the path of its binary. A process
// builds once for each set of options, and the binary goes when the process ends.
func BuildPlugin(ctx context.Context, opts BuildOptions) (string, error) {
	return BuildCommand(ctx, PluginName, opts)
}

// BuildCommand is BuildPlugin for any of the commands in cmd.
func BuildCommand(ctx context.Context, name string, opts BuildOptions) (string, error) {
	builds.mu.Lock()
	defer builds.mu.Unlock()
	c := command{name, opts}
	if s, ok := builds.dirs[c]; ok {
		return s.path(name), nil
	}
	s, err := newScratch(ctx, "build")
	if err != nil {
		return "", err
	}
	if err := c.build(ctx, s.path(name)); err != nil {
		return "", errors.Join(err, s.remove())
	}
	builds.dirs[c] = s
	return s.path(name), nil
}

// build makes the binary at path. It is a copy of one that stays in the cache beside
// the tools: the go command leaves that alone while it is the same, and so links once
// for all packages whose tests need it. One process builds it at a time.
func (c command) build(ctx context.Context, path string) error {
	kept, err := c.kept()
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(kept+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock binary: %w", err)
	}
	defer lock.Close()                                                     //nolint:errcheck // that ends the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { //nolint:gosec // it is small
		return fmt.Errorf("lock binary: %w", err)
	}
	if err := c.goBuild(ctx, kept); err != nil {
		return err
	}
	binary, err := os.ReadFile(kept) //nolint:gosec // our own
	if err != nil {
		return fmt.Errorf("read binary: %w", err)
	}
	return WriteProgram(path, binary, 0o700)
}

// kept is where in the cache the binary stays; scripts/prelude.sh says where that is.
func (c command) kept() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache: %w", err)
	}
	dir := filepath.Join(cache, "smvm", "builds")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	name := []string{c.name}
	if c.opts.Race {
		name = append(name, "race")
	}
	return filepath.Join(dir, strings.Join(append(name, c.opts.Version, c.opts.Tags, c.opts.Commit), "-")), nil
}

// goBuild runs the go command.
func (c command) goBuild(ctx context.Context, path string) error {
	opts := c.opts
	root, err := Root()
	if err != nil {
		return err
	}
	if opts.Commit != "" {
		source, err := checkOut(ctx, root, opts.Commit)
		if err != nil {
			return err
		}
		defer source.remove() //nolint:errcheck // it has been built
		root = source.dir
	}
	// -trimpath, as a release is built, and as scripts/prelude.sh says.
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", path}
	if opts.Race {
		args = append(args, "-race", "-gcflags=crypto/internal/fips140/...=-race=false") // as scripts/test.sh says
	}
	if opts.Tags != "" {
		args = append(args, "-tags", opts.Tags)
	}
	if opts.Version != "" {
		args = append(args, "-ldflags", "-X "+modulePath+"/backend.version="+opts.Version)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/"+c.name)...) //nolint:gosec // our own options
	cmd.Dir = root
	if opts.Race {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", c.name, err, out)
	}
	return nil
}

// checkOut puts the files of a commit into a directory of their own.
func checkOut(ctx context.Context, root, commit string) (*scratch, error) {
	s, err := newScratch(ctx, "source")
	if err != nil {
		return nil, err
	}
	archive := s.path("source.tar")
	for _, args := range [][]string{{"git", "-C", root, "archive", "-o", archive, commit}, {"tar", "-C", s.dir, "-xf", archive}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil { //nolint:gosec // our own arguments
			return nil, errors.Join(fmt.Errorf("take commit %s from the repository, which has to be a whole clone (git fetch --unshallow): %w: %s", commit, err, out), s.remove())
		}
	}
	return s, nil
}

// WriteProgram writes a file that is to be executed. Meanwhile, this process starts no
// other one: a child has a copy of the open file until it executes its own program, and
// as long as a file is open for writing, Linux does not execute it (ETXTBSY).
func WriteProgram(path string, content []byte, mode fs.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, mode)
}
