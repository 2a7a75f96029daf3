package secret

import "testing"

// TestSetWaitsForOthers sets a value that the server accepts already, while a
// transaction of another node that takes it away again is open. What is set last
// must last.
func TestSetWaitsForOthers(t *testing.T) {
	for _, name := range []string{"single user", "alternating users", "connection"} {
		t.Run(name, func(t *testing.T) {
			s := subjects[name](t)
			one := s.first()
			two := s.create()
			s.secret.Pending = s.value(two)
			s.set(two)
			holder := connect(t, shared)
			_, err := holder.Exec(t.Context(), "BEGIN; "+alterRole(two["username"], one["password"]))
			must(t, err)

			ended := make(chan error)
			go func() { ended <- s.Set(t.Context(), s.secret, two, unfenced) }()
			s.waits(connect(t, shared))
			_, err = holder.Exec(t.Context(), "COMMIT")
			must(t, err)
			if <-ended != nil { // PostgreSQL refuses to change what was changed meanwhile
				s.set(two)
			}
			s.accepted(two)
		})
	}
}
