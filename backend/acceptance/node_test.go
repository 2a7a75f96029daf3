//go:build kits

package acceptance

import "testing"

// nodeService starts bootstrap/apps/node/main.mjs.
func nodeService(e *engine, env ...string) *service {
	e.Helper()
	script := nodeScript(e.T, "bootstrap/apps/node/main.mjs")
	return e.kitService(env, script.Path, script.Args[1:]...)
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
