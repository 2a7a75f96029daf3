// Command kubernetes applies the manifests of bootstrap/apps/kubernetes as a reader of
// docs/applications.md does: to a cluster with the operators that they are for, whose
// API server reviews the operators' logins to Vault. It rotates, and checks what becomes
// of the Secrets and of the Deployment. See scripts/kubernetes.sh, which is make
// kubernetes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/marked"
)

// settings are the command line.
type settings struct{ only, report string }

func main() {
	var s settings
	flag.StringVar(&s.only, "only", "", "run only this operator: vault-secrets-operator or external-secrets")
	flag.StringVar(&s.report, "report", "", "markdown `file` whose table is replaced by the new one, if all operators were run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}

// run runs the operators one after the other, and prints what was measured. Whatever
// is not as the manifests say is an error.
func run(ctx context.Context, s settings) (err error) {
	w, err := newWorld(ctx)
	defer func() { err = errors.Join(err, w.stop()) }()
	if err != nil {
		return err
	}
	var results []result
	for _, o := range operators {
		if s.only != "" && s.only != o.name {
			continue
		}
		found, err := w.follow(ctx, o)
		if err != nil {
			return fmt.Errorf("run %s: %w", o.title, err)
		}
		results = append(results, found...)
	}
	text := table(results)
	fmt.Print(text)
	if s.report == "" || s.only != "" {
		return nil
	}
	return marked.Replace(s.report, "kubernetes", text)
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "kubernetes: "+format+"\n", args...)
}
