package testenv

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// ProcessorTime returns the processor time that the server and its plugins have used
// since they were started. It is zero for what does not run.
func (v *Vault) ProcessorTime() (server, plugins time.Duration) {
	for _, pid := range v.PluginPIDs() {
		own, _ := processorTime(pid)
		plugins += own
	}
	server, _ = processorTime(v.PID())
	return server, plugins
}

// ProcessorTime returns the processor time that the server has used since it was
// started, with that of its processes, of which each connection has one, also of
// those that have ended.
func (pg *Postgres) ProcessorTime() time.Duration {
	pid := pg.process.pid()
	own, ended := processorTime(pid)
	for _, child := range childrenOf(pid) {
		living, _ := processorTime(child)
		own += living
	}
	return own + ended
}

// jiffy is the unit of times below /proc (proc(5)).
const jiffy = 10 * time.Millisecond

// processorTime returns what a process has used, and what its children have that
// have ended.
func processorTime(pid int) (own, ended time.Duration) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0
	}
	// utime, stime, cutime and cstime are the fields 14 to 17; state is the third.
	fields := strings.Fields(afterName(text))
	if len(fields) < 15 {
		return 0, 0
	}
	var times [4]time.Duration
	for i, text := range fields[11:15] {
		n, _ := strconv.ParseInt(text, 10, 64)
		times[i] = time.Duration(n) * jiffy
	}
	return times[0] + times[1], times[2] + times[3]
}
