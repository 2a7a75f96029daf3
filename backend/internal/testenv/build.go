package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
)

// modulePath is this module's, as the linker and the compiler know it.
const modulePath = "github.com/smvm/vault-plugin-secrets-smvm"

// BuildOptions says how BuildPlugin builds.
type BuildOptions struct {
	// Race builds with the race detector, which needs a C compiler.
	Race bool
	// Version is what the plugin reports, such as v0.2.0; empty keeps the
	// source's.
	Version string
	// Tags are build tags, separated by commas.
	Tags string
}

// builds remembers what this process has built, because many tests need it.
// The directories stay reachable: a collected one is removed.
var builds = struct {
	mu   sync.Mutex
	dirs map[BuildOptions]*scratch
}{dirs: map[BuildOptions]*scratch{}}

// BuildPlugin builds the plugin and returns the path of its binary. A process
// builds once for each set of options, and the binary goes when the process ends.
func BuildPlugin(ctx context.Context, opts BuildOptions) (string, error) {
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if s, ok := builds.dirs[opts]; ok {
		return s.path(PluginName), nil
	}
	s, err := newScratch(ctx, "build")
	if err != nil {
		return "", err
	}
	if err := build(ctx, opts, s.path(PluginName)); err != nil {
		return "", errors.Join(err, s.remove())
	}
	builds.dirs[opts] = s
	return s.path(PluginName), nil
}

// build runs the go command.
func build(ctx context.Context, opts BuildOptions, path string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	args := []string{"build", "-buildvcs=false", "-o", path}
	if opts.Race {
		args = append(args, "-race")
	}
	if opts.Tags != "" {
		args = append(args, "-tags", opts.Tags)
	}
	if opts.Version != "" {
		args = append(args, "-ldflags", "-X "+modulePath+"/backend.version="+opts.Version)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/"+PluginName)...) //nolint:gosec // our own options
	cmd.Dir = root
	if opts.Race {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build plugin: %w: %s", err, out)
	}
	return nil
}
