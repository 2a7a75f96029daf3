package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Between two collections, garbage may pile up to a number of bytes and to
// sharePercent of what is in use. Go's own rule is a share alone: with few roles it
// collects all the time, and with many it lets garbage take as much as all roles do,
// which stay. Each collection looks at all roles, so there may be more garbage while
// they follow each other within busyTime; restTime after the last of these, what was
// taken for that is given back.
const (
	sharePercent = 10
	mostPercent  = 400
	restBytes    = 8 << 20
	busyBytes    = 32 << 20
	busyTime     = 3 * time.Second
	restTime     = 10 * time.Second
)

// boundGarbage keeps to that, unless Vault's environment says otherwise by GOGC.
func boundGarbage() {
	if os.Getenv("GOGC") != "" {
		return
	}
	b := &bound{rest: time.AfterFunc(restTime, debug.FreeOSMemory)}
	b.adjust()
}

// bound follows what is in use.
type bound struct {
	collected time.Time // the last collection
	rest      *time.Timer
}

// sentinel is garbage as soon as it is made, so that its finalizer runs after the
// next collection. It is larger than what Go allocates together with others.
type sentinel struct{ _ [32]byte }

// adjust is called after each collection.
func (b *bound) adjust() {
	spare, last := restBytes, b.collected
	if b.collected = time.Now(); b.collected.Sub(last) < busyTime {
		spare = busyBytes
		b.rest.Reset(restTime)
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(percent(live[0].Value.Uint64(), spare))
	runtime.SetFinalizer(&sentinel{}, func(*sentinel) { b.adjust() })
}

// percent is how much garbage there may be for so many bytes in use.
func percent(live uint64, spare int) int {
	if live == 0 {
		return mostPercent
	}
	return min(mostPercent, sharePercent+int(100*uint64(spare)/live)) //nolint:gosec // spare is positive, and the quotient at most 100 times that
}
