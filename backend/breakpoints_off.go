//go:build !breakpoints

package backend

import "github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"

// withBreakpoints returns the engine as it is: only the plugin that tests build,
// with the tag breakpoints, can be stopped at a side effect.
func withBreakpoints(e *rotation.Engine) *rotation.Engine { return e }
