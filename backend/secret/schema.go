package secret

import (
	"encoding/json"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
)

// PasswordPolicyHelp is what types say of that field.
const PasswordPolicyHelp = "name of a Vault password policy that makes the values."

// Kind is what a field of a request holds.
type Kind int

// The kinds of fields.
const (
	// Text is one text.
	Text Kind = iota
	// Hidden is a text that is secret.
	Hidden
	// Names are texts without commas, which may come in one with commas between.
	Names
	// Texts are any.
	Texts
	// Number is a whole one.
	Number
	// Seconds is a duration, in seconds, or with a unit as Vault reads them.
	Seconds
	// Switch is true or false.
	Switch
)

// Field is one of those that requests about a type may have.
type Field struct {
	// Name is also the name in the stored configuration.
	Name string
	Kind Kind
	// Values are all that a text may be; none means any.
	Values []string
	// Help says what it is for, in a sentence or more.
	Help string
}

// Schema is how a type describes itself to those who configure it, and who read from it.
type Schema struct {
	// Settings are the fields of the configuration.
	Settings []Field
	// Imports are the fields that may carry a value to take over.
	Imports []Field
	// Answers are what Fields and PreviousFields may have.
	Answers []Answer
}

// Answer is a field that applications read of a value.
type Answer struct {
	Name string
	// Help says what it is, in a sentence or more.
	Help string
}

// ShownOnce is a Type of which some values are given to nobody but who asks for them.
type ShownOnce interface {
	Type
	// IsShownOnce reports whether those of a configuration are.
	IsShownOnce(config json.RawMessage) bool
}

// Rewrite returns a configuration as C is stored, after settle has put in the defaults
// that are.
func Rewrite[C any](config json.RawMessage, settle func(*C)) (json.RawMessage, error) {
	c, err := input.Decode[C](config)
	if err != nil {
		return nil, err
	}
	settle(&c)
	return json.Marshal(c)
}
