// Command smvm-api is the service of the rotation procedure, small but honest:
// it works in PostgreSQL, accepts JWTs and API keys, and runs on through every
// rotation of its credentials. It is there to be copied from. What is worth
// copying is in package bootstrap/apps/go/smvmcreds; this is how it is used.
//
// It gets its credentials in one of three ways (-from):
//
//	vault        from smvm/creds by itself, or through a Vault Agent. New values
//	             come into use while it runs.
//	files        from .env and config/secrets.yaml, which a Vault Agent renders.
//	             New values come into use on SIGHUP, or on a restart.
//	environment  from the same variables, set by a Vault Agent that supervises
//	             it. New values come into use on a restart.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/bootstrap/apps/go/smvmcreds"
)

// settings are the command line.
type settings struct {
	listen, from, dir, path, database string
	drain                             time.Duration
	retry                             bool
}

func main() {
	var s settings
	flag.StringVar(&s.listen, "listen", "127.0.0.1:8000", "`address` to serve at")
	flag.StringVar(&s.from, "from", "vault", "where the credentials are: vault, files or environment")
	flag.StringVar(&s.dir, "dir", ".", "`directory` with .env and config/secrets.yaml, with -from files")
	flag.StringVar(&s.path, "path", "smvm/creds/default", "`path` of the role's credentials, with -from vault")
	flag.StringVar(&s.database, "database", "", "`URL` of another server than the credentials say, such as a PgBouncer, without a user and with its sslmode")
	flag.DurationVar(&s.drain, "drain", 0, "how long to go on serving after SIGTERM with /health answering 503, so that a load balancer sends its requests elsewhere")
	flag.BoolVar(&s.retry, "retry", true, "read the credentials again and repeat what PostgreSQL refused the login for; without it such a request fails")
	flag.Parse()
	if err := run(s); err != nil {
		slog.Error("smvm-api ends", "error", err)
		os.Exit(1)
	}
}

// run serves until a signal ends it and all requests have been answered.
func run(s settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From the very start: unheard, SIGHUP would end the service.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	reader, err := newReader(s)
	if err != nil {
		return err
	}
	source, err := smvmcreds.Open(ctx, reader, smvmcreds.Options{})
	if err != nil {
		return err
	}
	defer source.Close()
	a, err := newAPI(ctx, source, s)
	if err != nil {
		return err
	}
	defer a.pool.Close()
	go reload(ctx, hangups, source)
	return serve(ctx, a, s)
}

// serve answers requests until ctx ends.
func serve(ctx context.Context, a *api, s settings) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: a.routes(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	slog.Info("serving", "address", listener.Addr().String(), "version", a.source.Current().Version)
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	a.stopping.Store(true)
	time.Sleep(s.drain)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

// reload reads the credentials again on SIGHUP, which is what systemctl reload
// sends.
func reload(ctx context.Context, hangups <-chan os.Signal, source *smvmcreds.Source) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		if err := source.Refresh(ctx); err != nil && !errors.Is(err, context.Canceled) {
			slog.Warn("reload: keeping the last credentials", "error", err)
		}
	}
}
