// Package secret says what a type of secret is: how its values are made, applied, tried and
// made unusable, which is rotation.Driver, and how it describes its fields, imports and
// answers. Each type is a package of its own below this one, and is registered in package
// backend.
//
// What holds for every type: nothing that is secret appears in an error, in a
// finding or in a proof; every call ends soon after its context does; Set, Undo
// and Retire may be repeated.
package secret

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The stages of the values that readers can ask for.
const (
	StageCurrent  = "current"
	StagePrevious = "previous"
)

// MaxValue is the size in bytes above which no value is taken: Vault limits a
// storage entry to 1 MiB, and a role keeps three values of each secret in one.
const MaxValue = 64 << 10

// Type is one type of secret that roles can have.
type Type interface {
	Values
	// Schema says which fields the type has.
	Schema() Schema
	// Normalize returns a configuration that is not validated yet as it is stored. Its
	// errors wrap rotation.ErrInvalid.
	Normalize(config json.RawMessage) (json.RawMessage, error)
	// ImportField returns the field among Schema's Imports that carries a value of such a
	// configuration. That another one is named is an error, which wraps
	// rotation.ErrInvalid.
	ImportField(config json.RawMessage, named func(field string) bool) (string, error)
}

// Values is what a type knows of its values. That of a connection's administrator is no
// Type, because no role has it.
type Values interface {
	rotation.Driver
	// Validate checks a configuration as stored in rotation.Secret.Config. Its
	// errors wrap rotation.ErrInvalid and name the field, what is wrong with it
	// and the fix.
	Validate(config json.RawMessage) error
	// ValidateUpdate says which changes of a configuration are refused. Its
	// errors wrap rotation.ErrInvalid. Both configurations are valid by themselves.
	ValidateUpdate(old, updated json.RawMessage) error
	// Import turns the clear text that an operator supplied into material. Its
	// errors wrap rotation.ErrInvalid and never quote the text. Nothing is tried
	// at the target: Test does that.
	Import(s rotation.Secret, supplied string) (rotation.Material, error)
	// Fields is what applications read of the value v of s, by the bare names of
	// smvm/creds/:role/:secret. It reaches for no target.
	Fields(s rotation.Secret, v rotation.Material) (map[string]string, error)
	// PreviousFields is what is added to Fields while previous is in overlap;
	// empty for types whose readers have no use for it.
	PreviousFields(previous rotation.Material) map[string]string
	// OffersPrevious says whether the previous value still works during the
	// overlap, so that readers may be given it.
	OffersPrevious(s rotation.Secret) bool
	// Digests are those of the texts by which somebody can hold v, the one of the value
	// itself first.
	Digests(v rotation.Material) ([]Digest, error)
	// Guesses are the digests that a value has which the text is, or contains in a form
	// of the type, such as a password in a connection string.
	Guesses(text string) []Digest
	// Verify uses the current value of s for real and proves that what must be
	// refused is refused. The proofs are sentences for a person; the error names
	// what is not as it should be, and the proofs up to there stand.
	Verify(ctx context.Context, s rotation.Secret) (proofs []string, err error)
}

// Preflighter is what has more to try than a value itself.
type Preflighter interface {
	Values
	// Preflight tries everything Set and Test would need, using v as the value,
	// and changes nothing. The findings are warnings for the operator; an error
	// says what would make the rotation fail and how to fix it.
	Preflight(ctx context.Context, s rotation.Secret, v rotation.Material) (findings []string, err error)
}

// Presented is a Type whose values clients present to applications as they are, so that an
// application can be asked to refuse one that is retired.
type Presented interface {
	Type
	// Presents returns the field among PreviousFields that has such a value.
	Presents() string
}

// Try tries all that is needed to make v the value of s, without changing anything. The
// findings are warnings for the operator.
func Try(ctx context.Context, t Values, s rotation.Secret, v rotation.Material) (findings []string, err error) {
	if p, ok := t.(Preflighter); ok {
		return p.Preflight(ctx, s, v)
	}
	return nil, t.Test(ctx, s, v)
}

// Inspector is a Type whose values are at a target that can be looked at.
type Inspector interface {
	Type
	// Inspect looks at the target of s for what would make a rotation fail, or hurt
	// later, and says how to mend it. It changes nothing, and opens one connection.
	// What could not be looked at is among the findings.
	Inspect(ctx context.Context, s rotation.Secret, about preflight.Subject) preflight.Report
}

// Passwords makes passwords by the name of a Vault password policy. Vault is the
// only implementation outside tests.
type Passwords interface {
	Generate(ctx context.Context, policy string) (string, error)
}

// ErrNoCurrent says that there is nothing to verify yet.
var ErrNoCurrent = errors.New("there is no current value")
