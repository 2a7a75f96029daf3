package testenv

import (
	"strconv"
	"testing"
)

// A port stays claimed while its server is down.
func TestPortIsClaimed(t *testing.T) {
	t.Parallel()
	port, err := freePort(t.Context())
	must(t, err)
	if err := claim(t.Context(), strconv.Itoa(port)); err == nil {
		t.Errorf("port %d is given twice", port)
	}
}
