package rotation

import "context"

// move gives readers another way to use values that stay the same, because their
// targets are reached elsewhere now. Every value that readers are given is proven
// there first; then all of them change their way in one write, as a new version. No
// target is changed, so there is no intent to save.
func (run *Run) move(ctx context.Context) error {
	for _, name := range run.op.Secrets {
		secret := run.secret(name)
		for _, v := range run.role.engine.offered(secret) {
			if err := run.step(ctx, name, "probe", func(ctx context.Context) error {
				return run.driver(secret).Probe(ctx, secret, v.Material)
			}); err != nil {
				return err
			}
		}
	}
	return run.role.update(ctx, func(s *State) error {
		results := run.results(s)
		if err := run.place(s); err != nil {
			return err
		}
		return run.conclude(s, OutcomeCompleted, results)
	})
}

// place changes the way of the proven values of the run's secrets, and makes that a
// new version. It does nothing where none is used elsewhere than before.
func (run *Run) place(s *State) error {
	moved := map[string]Secret{}
	for _, name := range run.op.Secrets {
		if s.Secrets[name] == nil {
			continue
		}
		placed, err := run.role.engine.placed(*s.Secrets[name])
		if err != nil {
			return err
		}
		if placed != nil {
			moved[name] = *placed
		}
	}
	if len(moved) == 0 {
		return nil
	}
	s.Version++
	s.LastRotation = run.now()
	for name, secret := range moved {
		current := *secret.Current
		current.Version = s.Version
		secret.Current = &current
		s.Secrets[name] = &secret
	}
	return nil
}

// placed returns s with the values that readers are given as values that are used
// where its target is now; nil if they are already.
func (e *Engine) placed(s Secret) (*Secret, error) {
	placed := s
	for _, v := range e.offered(s) {
		at, err := e.place(s, v)
		if err != nil {
			return nil, err
		}
		if v == s.Previous {
			placed.Previous = at
		} else {
			placed.Current = at
		}
	}
	if placed.Current == s.Current && placed.Previous == s.Previous {
		return nil, nil
	}
	return &placed, nil
}

// place returns v as a value that is used where the target of s is now: v itself if
// it is one.
func (e *Engine) place(s Secret, v *Value) (*Value, error) {
	driver, ok := e.Drivers[s.Type].(Placer)
	if !ok {
		return v, nil
	}
	material, err := driver.Place(s, v.Material)
	if err != nil || material.Equal(v.Material) {
		return v, err
	}
	at := *v
	at.Material = material
	return &at, nil
}

// Misplaced lists the secrets of a state whose readers are told another way than the
// one by which their targets are reached now.
func (e *Engine) Misplaced(s *State) []string {
	var names []string
	for _, name := range s.Names() {
		if placed, err := e.placed(*s.Secrets[name]); err == nil && placed != nil {
			names = append(names, name)
		}
	}
	return names
}
