// Command smvm-report writes what an auditor wants to see as one self-contained HTML
// file: a timeline of every role, the age of every secret and the age that its policy
// allows, how long things took, and the records of what was done. It talks to Vault as
// any client does, by VAULT_ADDR and VAULT_TOKEN, and a token with the policy
// bootstrap/install/policies/auditor.hcl is enough. It never reads secret values.
//
// With -verify it verifies a history that was exported as JSON Lines, without Vault.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/client"
	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/model"
	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/render"
)

// settings are the command line.
type settings struct {
	mount, out, since, verify, head string
}

func main() {
	var s settings
	flag.StringVar(&s.mount, "mount", "smvm", "`path` where the engine is mounted")
	flag.StringVar(&s.out, "out", "report.html", "`file` to write")
	flag.StringVar(&s.since, "since", "90d", "how far back to look, such as 90d or 12h")
	flag.StringVar(&s.verify, "verify", "", "verify this exported history `file` instead of writing a report")
	flag.Func("head", "with -verify: the `hash` that the engine reports as head_hash; the file must have the entry with this hash", s.takeHead)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "smvm-report:", err)
		os.Exit(1)
	}
}

// takeHead reads -head. It is empty if a command that should have read the hash failed.
func (s *settings) takeHead(hash string) error {
	if s.head = hash; hash == "" {
		return errors.New("it is empty; give the head_hash that the engine reports")
	}
	return nil
}

func run(ctx context.Context, s settings) error {
	if s.verify != "" {
		return verifyFile(s.verify, s.head, os.Stdout)
	}
	if s.head != "" {
		return errors.New("-head is for -verify only")
	}
	period, err := parsePeriod(s.since)
	if err != nil {
		return err
	}
	now := time.Now()
	e, err := client.Read(ctx, s.mount, now.Add(-period))
	if err != nil {
		return err
	}
	if err := render.Write(s.out, model.NewReport(e, now)); err != nil {
		return err
	}
	fmt.Println("wrote", s.out)
	return nil
}

// parsePeriod reads a duration as Go has it, or a number of days.
func parsePeriod(text string) (time.Duration, error) {
	var days int
	if n, err := fmt.Sscanf(text+"\n", "%dd\n", &days); err == nil && n == 1 && days > 0 && days < 36500 {
		return time.Duration(days) * 24 * time.Hour, nil
	}
	period, err := time.ParseDuration(text)
	if err != nil || period <= 0 {
		return 0, fmt.Errorf("-since is %q; it must be a duration such as 90d or 12h", text)
	}
	return period, nil
}
