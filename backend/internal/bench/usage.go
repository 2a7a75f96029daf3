package main

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

// usage is processor time in milliseconds, by who used it.
type usage struct{ vault, plugins, postgres, clients float64 }

// usage returns what everybody has used so far.
func (w *world) usage() usage {
	server, plugins := w.vault.ProcessorTime()
	var own syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &own) // it fails for no process there is
	return usage{
		vault: milliseconds(server), plugins: milliseconds(plugins), postgres: milliseconds(w.postgres.ProcessorTime()),
		clients: milliseconds(time.Duration(own.Utime.Nano() + own.Stime.Nano())),
	}
}

// since returns what each of so many pieces of work used.
func (u usage) since(before usage, times int) usage {
	n := float64(times)
	return usage{
		(u.vault - before.vault) / n, (u.plugins - before.plugins) / n,
		(u.postgres - before.postgres) / n, (u.clients - before.clients) / n,
	}
}

func (u usage) total() float64 { return u.vault + u.plugins + u.postgres + u.clients }

// String says it in a few words.
func (u usage) String() string {
	return fmt.Sprintf("Vault %.2f ms, plugin %.2f, PostgreSQL %.2f, clients %.2f", u.vault, u.plugins, u.postgres, u.clients)
}

// usages is the table of where the processors' time went, in markdown: of each part,
// the median of the rounds.
func usages(compared []series) string {
	var out strings.Builder
	out.WriteString("| processor time of one | Vault | plugin | PostgreSQL | clients | together |\n|---|---|---|---|---|---|\n")
	for _, s := range compared {
		part := func(of func(usage) float64) string {
			values := make([]float64, len(s.used))
			for i, u := range s.used {
				values[i] = of(u)
			}
			return fmt.Sprintf("%.2f ms", middle(values))
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s |\n", s.name,
			part(func(u usage) float64 { return u.vault }), part(func(u usage) float64 { return u.plugins }),
			part(func(u usage) float64 { return u.postgres }), part(func(u usage) float64 { return u.clients }),
			part(usage.total))
	}
	return out.String()
}
