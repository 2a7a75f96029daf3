package main

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

// usage is processor time in milliseconds: of Vault, the plugins, PostgreSQL and the
// clients, and of all of them.
type usage [5]float64

// usage returns what everybody has used so far.
func (w *world) usage() (u usage) {
	server, plugins := w.vault.ProcessorTime()
	var own syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &own) // it fails for no process there is
	clients := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	for i, used := range []time.Duration{server, plugins, w.postgres.ProcessorTime(), clients} {
		u[i] = milliseconds(used)
		u[4] += u[i]
	}
	return u
}

// since returns what each of so many pieces of work used.
func (u usage) since(before usage, times int) usage {
	for i := range u {
		u[i] = (u[i] - before[i]) / float64(times)
	}
	return u
}

// usages is the table of CPU time by process, in markdown: of each part, the median of
// the rounds.
func usages(compared []series) string {
	var out strings.Builder
	out.WriteString("| CPU time for one … | Vault | plugin | PostgreSQL | clients | total |\n|---|---|---|---|---|---|\n")
	for _, s := range compared {
		fmt.Fprintf(&out, "| %s |", s.name)
		for part := range (usage{}) {
			values := make([]float64, len(s.used))
			for i, u := range s.used {
				values[i] = u[part]
			}
			fmt.Fprintf(&out, " %.2f ms |", middle(values))
		}
		out.WriteString("\n")
	}
	return out.String()
}
