package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// benchmarkLine is a line of go test -bench, of a benchmark over sizes.
var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark(\w+)/roles=(\d+)\S*\s+\d+\s+([\d.]+) ns/op.*?([\d.e+-]+) storage/op`)

// cost is what one benchmark says at one size.
type cost struct{ nanoseconds, storage float64 }

// addCosts runs the Go benchmarks, in which Vault has no part, and makes rows of what
// they say of the largest number of roles.
func (r *report) addCosts(ctx context.Context) error {
	say("Go benchmarks")
	root, err := testenv.Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Tick|Read|Rotate", "./backend")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run Go benchmarks: %w: %s", err, out)
	}
	r.costs = map[string]map[int]cost{}
	for _, found := range benchmarkLine.FindAllStringSubmatch(string(out), -1) {
		name := found[1]
		roles, _ := strconv.Atoi(found[2])
		ns, _ := strconv.ParseFloat(found[3], 64)
		calls, _ := strconv.ParseFloat(found[4], 64)
		if r.costs[name] == nil {
			r.costs[name] = map[int]cost{}
		}
		r.costs[name][roles] = cost{ns, calls}
	}
	tick, ok := r.costs["Tick"][10000]
	if !ok {
		return fmt.Errorf("the Go benchmarks say nothing of a tick with 10000 roles: %s", out)
	}
	r.rows = append(r.rows,
		below("10000 roles, idle", "one call of the SDK's `PeriodicFunc`, in a Go benchmark without a Vault server", 10, tick.nanoseconds/1e6, "ms"),
		below("", "storage calls in one call", 1, tick.storage, ""))
	return nil
}
