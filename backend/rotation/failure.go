package rotation

import (
	"fmt"
	"strings"
)

// StepError says which step failed on which secret.
type StepError struct {
	Secret, Step string
	Err          error
}

// Error implements error.
func (e *StepError) Error() string {
	return fmt.Sprintf("secret %s: %s: %s", e.Secret, e.Step, plain(e.Err))
}

// plain is the text of an error without what only callers branch on.
func plain(err error) string { return strings.ReplaceAll(err.Error(), ErrInvalid.Error()+": ", "") }

// Unwrap gives access to the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Failure is an operation that did not complete. Its text is the answer to who
// asked for it: what happened, what is true now, and what to do.
type Failure struct {
	Record Record
	Cause  error
	// Now says what is true after the failure.
	Now string
}

// Error implements error.
func (f *Failure) Error() string {
	return fmt.Sprintf("%s %s of %s %s: %v. %s", f.Record.Kind, f.Record.ID, f.Record.Role,
		strings.ReplaceAll(string(f.Record.Outcome), "_", " "), f.Cause, f.Now)
}

// Unwrap gives access to the cause.
func (f *Failure) Unwrap() error { return f.Cause }
