package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childrenOf returns the process ids of the living children of a process.
func childrenOf(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []int
	for _, path := range stats {
		text, err := os.ReadFile(path) //nolint:gosec // from the glob above
		if err != nil {
			continue // it has exited meanwhile
		}
		// "pid (name) state ppid …"; the name may contain anything.
		_, rest, _ := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), " ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// alive reports whether a process of this id exists and is not a zombie.
func alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(text), ") Z ") && syscall.Kill(pid, 0) == nil
}

// waitGone waits until none of the processes is alive any more. It takes no
// context: cleaning up goes on when everything else has ended.
func waitGone(pids []int) error {
	deadline := time.Now().Add(stopTimeout)
	for slices.ContainsFunc(pids, alive) {
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for processes %v to end: still there after %s", pids, stopTimeout)
		}
		time.Sleep(pollInterval)
	}
	return nil
}
