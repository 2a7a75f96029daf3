// Command devenv runs a command beside a real Vault and a real PostgreSQL that
// it starts for it, and stops both when the command ends:
//
//	scripts/devenv.sh [-cluster] [-enable] [-major N] [-- COMMAND ARGUMENTS…]
//
// The plugin is built and registered in Vault's catalog. COMMAND finds its way
// by the environment: see environment. Without COMMAND, devenv prints how to
// talk to the servers and keeps them until it is interrupted. With -cluster
// there are three Vault nodes, and those that are killed are started again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// options are the command line.
type options struct {
	cluster bool
	enable  bool
	major   int
	command []string
}

func main() {
	var opts options
	flag.BoolVar(&opts.cluster, "cluster", false, "start a Vault of three nodes, with the plugin enabled at smvm/")
	flag.BoolVar(&opts.enable, "enable", false, "also enable the plugin, at smvm/")
	flag.IntVar(&opts.major, "major", 0, "PostgreSQL's major version, 14 to 18 (default: what is there)")
	flag.Parse()
	opts.command = flag.Args()
	os.Exit(exitCode(run(opts)))
}

// exitCode returns the command's own exit code, or 128 and the signal that
// ended it, as shells do. Any other error it reports itself.
func exitCode(err error) int {
	var command *commandError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &command):
		exit := command.exit
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal())
		}
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "devenv:", err)
		return 1
	}
}

// commandError is how the command ended that devenv was to run: not well, and it
// has said why.
type commandError struct{ exit *exec.ExitError }

// Error implements error.
func (e *commandError) Error() string { return e.exit.Error() }

// run starts everything, runs the command, and stops everything.
func run(opts options) (err error) {
	// Caught from here on, so that an interrupt ends what is under way and
	// then stops the servers in order.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	fmt.Fprintln(os.Stderr, "devenv: starting PostgreSQL and Vault")
	pg, err := testenv.StartPostgres(ctx, testenv.PostgresOptions{Major: opts.major})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Stop()) }()
	if opts.cluster {
		return runCluster(ctx, pg, opts.command)
	}
	v, err := testenv.StartVault(ctx, testenv.VaultOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Stop()) }()
	binary, err := installPlugin(ctx, v, opts.enable)
	if err != nil {
		return err
	}
	env := environment(pg, v, binary)
	if len(opts.command) == 0 {
		return wait(ctx, env)
	}
	return runCommand(opts.command, env)
}

// vault is one server or a cluster.
type vault interface {
	RegisterPlugin(ctx context.Context, binary, version string) error
	Enable(ctx context.Context, path, version string) error
}

// installPlugin builds and registers the plugin, and returns the built binary.
func installPlugin(ctx context.Context, v vault, enable bool) (string, error) {
	fmt.Fprintln(os.Stderr, "devenv: building the plugin")
	binary, err := testenv.BuildPlugin(ctx, testenv.BuildOptions{})
	if err != nil {
		return "", err
	}
	if err := v.RegisterPlugin(ctx, binary, ""); err != nil {
		return "", err
	}
	if enable {
		err = v.Enable(ctx, "smvm", "")
	}
	return binary, err
}

// runCommand runs the command at the terminal and passes signals on to it. It
// takes an interrupt itself first: the terminal sends that one to both.
func runCommand(command []string, env []variable) error {
	cmd := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // the user's own command
	cmd.Env = apply(os.Environ(), env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if path := lookPath(command[0], env); path != "" {
		cmd.Path, cmd.Err = path, nil
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start command: %w", err)
	}
	go forward(signals, cmd.Process)
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &commandError{exit}
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", command[0], err)
	}
	return nil
}

// forward passes signals on, but for the interrupts that a terminal sends to
// the command as well.
func forward(signals <-chan os.Signal, to *os.Process) {
	for sig := range signals {
		if sig == os.Interrupt && isTerminal(os.Stdin) {
			continue
		}
		_ = to.Signal(sig) // it may have ended meanwhile
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
