package rotation

// complete gives the values that the run may set at their targets what they lack. That
// is saved with the intent, before any is set, so that undo, rollback, repair and
// recovery set the same as this run does.
func (run *Run) complete(s *State) error {
	if run.op.Kind == KindImport || run.op.Kind == KindRetire {
		return nil // nothing of what is stored is set
	}
	for _, name := range run.op.Secrets {
		secret := s.Secrets[name]
		driver, ok := run.driver(*secret).(Completer)
		if !ok {
			continue
		}
		for _, v := range []**Value{&secret.Current, &secret.Previous, &secret.Pending} {
			if err := completed(driver, *secret, v); err != nil {
				return err
			}
		}
		if run.op.Kind == KindRollback {
			secret.Pending.Material = secret.Previous.Material
		}
	}
	return nil
}

// completed replaces *v, if there is one, by a value that lacks nothing.
func completed(driver Completer, s Secret, v **Value) error {
	if *v == nil {
		return nil
	}
	material, err := driver.Complete(s, (*v).Material)
	if err != nil || material.Equal((*v).Material) {
		return err
	}
	whole := **v
	whole.Material = material
	*v = &whole
	return nil
}
