//go:build !failpoints

package backend

import (
	"context"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// withFailpoints returns the engine as it is: only the plugin that tests build,
// with the tag failpoints, can be stopped at a side effect.
func withFailpoints(e *rotation.Engine) *rotation.Engine { return e }

// failpoint does what is named, and nothing else.
func failpoint(_ context.Context, _ string, do func() error) error { return do() }
