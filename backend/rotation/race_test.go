//go:build race

package rotation

const raceEnabled = true
