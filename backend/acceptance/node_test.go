//go:build kits

package acceptance

import (
	"net"
	"testing"
)

// nodeService starts bootstrap/apps/node/main.mjs.
func nodeService(e *engine, env ...string) *service {
	e.Helper()
	script := nodeScript(e.T, "bootstrap/apps/node/main.mjs")
	var silent net.Conn
	e.Cleanup(func() { // after the service has ended
		if silent != nil {
			_ = silent.Close()
		}
	})
	s := e.kitService(env, script.Path, script.Args[1:]...)
	// Somebody who connects, and asks nothing, does not keep it when it is to end.
	var err error
	if silent, err = new(net.Dialer).DialContext(e.Context(), "tcp", s.address); err != nil {
		e.Fatal(err)
	}
	return s
}

// TestNodeServices runs the example for Node through rotations, with tokens that others
// can verify.
func TestNodeServices(t *testing.T) {
	t.Parallel()
	kitThroughRotations(t, nodeService, map[string]any{"algorithm": "ES256", "exportable": true})
}

// TestNodeServiceWithRefusedLogins has PostgreSQL refuse logins, with tokens by HMAC.
func TestNodeServiceWithRefusedLogins(t *testing.T) {
	t.Parallel()
	kitWithRefusedLogins(t, nodeService)
}

// TestNodeServiceWithoutVault takes Vault away for a while.
func TestNodeServiceWithoutVault(t *testing.T) {
	t.Parallel()
	kitWithoutVault(t, nodeService)
}

// TestNodeServiceSignsLater takes Vault away when one of two instances has a new key.
func TestNodeServiceSignsLater(t *testing.T) {
	t.Parallel()
	kitSignsLater(t, nodeService)
}
