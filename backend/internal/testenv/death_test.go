package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victimVariable turns this test binary into the victim of
// TestDeathLeavesNothing.
const victimVariable = "SMVM_TESTENV_VICTIM"

func TestMain(m *testing.M) {
	if how := os.Getenv(victimVariable); how != "" {
		victim(how)
	}
	os.Exit(m.Run())
}

// victim starts both servers, stalls one, prints what they have, and dies.
func victim(how string) {
	pg, errP := StartPostgres(context.Background(), PostgresOptions{})
	v, errV := StartVault(context.Background(), VaultOptions{})
	if err := errors.Join(errP, errV); err != nil {
		panic(err)
	}
	for _, pid := range append(childrenOf(pg.process.pid()), pg.process.pid(), v.PID()) {
		fmt.Println("process", pid)
	}
	fmt.Println("dir", pg.scratch.dir)
	fmt.Println("dir", v.scratch.dir)
	if how == "stalled" {
		if err := pg.Stall(); err != nil {
			panic(err)
		}
	}
	fmt.Println("ready")
	if how == "panic" {
		panic("as asked")
	}
	select {}
}

// No server outlives the process that started it, and no file does.
func TestDeathLeavesNothing(t *testing.T) {
	t.Parallel()
	deaths := map[string]syscall.Signal{
		"stalled":    syscall.SIGKILL,
		"terminated": syscall.SIGTERM, "panic": 0,
	}
	for how, sig := range deaths {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this test
			cmd.Env = append(os.Environ(), victimVariable+"="+how)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			pids, dirs := inventory(t, bufio.NewScanner(out))
			must(t, cmd.Process.Signal(sig))
			if err := cmd.Wait(); err == nil {
				t.Error("the victim left in peace")
			}
			must(t, waitGone(pids))
			must(t, waitRemoved(t.Context(), dirs))
		})
	}
}

// inventory reads what the victim prints until it is ready.
func inventory(t *testing.T, lines *bufio.Scanner) (pids []int, dirs []string) {
	t.Helper()
	for lines.Scan() && lines.Text() != "ready" {
		var pid int
		if _, err := fmt.Sscanf(lines.Text(), "process %d", &pid); err == nil {
			pids = append(pids, pid)
		} else if dir, ok := strings.CutPrefix(lines.Text(), "dir "); ok {
			dirs = append(dirs, dir)
		}
	}
	if len(pids) < 3 || len(dirs) != 2 {
		t.Fatalf("the victim started %d processes in %d directories", len(pids), len(dirs))
	}
	return pids, dirs
}

func waitRemoved(ctx context.Context, dirs []string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return Eventually(ctx, "removal", func(context.Context) error {
		for _, dir := range dirs {
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s is still there", dir)
			}
		}
		return nil
	})
}
