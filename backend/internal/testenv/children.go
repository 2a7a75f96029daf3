package testenv

import (
	"bytes"
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
		fields := strings.Fields(afterName(text))
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
	state := processState(pid)
	return state != "" && state != "Z" && syscall.Kill(pid, 0) == nil
}

// stopped reports whether a process was stopped by a signal.
func stopped(pid int) bool { return processState(pid) == "T" }

// processState returns the kernel's letter for a process; "" if it is gone.
func processState(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	state, _, _ := strings.Cut(afterName(text), " ")
	return state
}

// afterName returns what follows the name in the text of a stat file, "pid
// (name) state ppid …"; the name may contain anything.
func afterName(stat []byte) string {
	_, rest, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), " ")
	return rest
}

// waitGone waits until none of the processes is alive any more.
func waitGone(pids []int) error {
	return waitUntil(pids, "end", func(pid int) bool { return !alive(pid) })
}

// waitUntil waits until all of the processes have done what is named. It takes
// no context: cleaning up goes on when everything else has ended.
func waitUntil(pids []int, what string, done func(pid int) bool) error {
	deadline := time.Now().Add(stopTimeout)
	for pause := shortestPause; slices.ContainsFunc(pids, func(pid int) bool { return !done(pid) }); pause = nextPause(pause) {
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for processes %v to %s: they have not after %s", pids, what, stopTimeout)
		}
		time.Sleep(pause)
	}
	return nil
}
