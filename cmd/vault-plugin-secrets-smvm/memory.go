package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Between two collections, garbage may pile up to spareBytes and to sharePercent of
// what is in use. Go's own rule is a share alone: with few roles it collects all the
// time, and with many it lets garbage take as much as all roles do, which stay.
const (
	spareBytes   = 8 << 20
	sharePercent = 10
	mostPercent  = 400
)

// boundGarbage keeps to that, unless Vault's environment says otherwise by GOGC.
func boundGarbage() {
	if os.Getenv("GOGC") == "" {
		adjust(nil)
	}
}

// sentinel is garbage as soon as it is made, so that its finalizer runs after the
// next collection. It is larger than what Go allocates together with others.
type sentinel struct{ _ [32]byte }

// adjust follows what is in use, after each collection.
func adjust(*sentinel) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := mostPercent
	if bytes := live[0].Value.Uint64(); bytes > 0 {
		percent = min(mostPercent, sharePercent+int(100*spareBytes/bytes)) //nolint:gosec // it is at most 100 * spareBytes
	}
	debug.SetGCPercent(percent)
	runtime.SetFinalizer(&sentinel{}, adjust)
}
