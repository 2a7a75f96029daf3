package rotation

import (
	"context"
	"fmt"
)

// Turn waits, as long as ctx lasts, until no other request makes or removes a secret of
// the role, and returns what ends that. Requests for several secrets that come at once,
// as from a program that writes a whole configuration, are so done one after the other;
// one that would have to wait for longer gets ErrInFlight.
func (r *Role) Turn(ctx context.Context) (end func(), err error) {
	select {
	case r.turn <- struct{}{}:
		return func() { <-r.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: other requests that make or remove secrets of %s are under way; try again", ErrInFlight, r.Name)
	}
}
