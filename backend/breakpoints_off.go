//go:build !breakpoints

package backend

import (
	"context"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// withBreakpoints returns the engine as it is: only the plugin that tests build,
// with the tag breakpoints, can be stopped at a side effect.
func withBreakpoints(e *rotation.Engine) *rotation.Engine { return e }

// breakable does what is named, and nothing else.
func breakable(_ context.Context, _ string, do func() error) error { return do() }
