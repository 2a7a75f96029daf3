package postgres

import (
	"maps"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// verifierField is the field of a value with what the server keeps of its password. It
// is made once, with the value: another one of the same password has another salt, and
// a pooler that has logged in with what a client proved would be refused.
const verifierField = "verifier"

// WithVerifier returns v with a verifier, if it has none and the server is given one.
func (c Config) WithVerifier(v rotation.Material) (rotation.Material, error) {
	if v[verifierField] != "" || c.WithDefaults().PasswordAuthentication == AuthenticatePassword {
		return v, nil
	}
	verifier, err := scramVerifier(v["password"])
	if err != nil {
		return nil, err
	}
	whole := maps.Clone(v)
	whole[verifierField] = verifier
	return whole, nil
}

// Given is what the server is given as the password of v.
func (s Server) Given(v rotation.Material) (string, error) {
	if s.Config.PasswordAuthentication == AuthenticatePassword {
		return v.Content("password")
	}
	whole, err := s.Config.WithVerifier(v)
	return whole[verifierField], err
}

// SameLogin reports whether two values are the same user with the same password.
func SameLogin(a, b rotation.Material) bool {
	return a["username"] == b["username"] && a["password"] == b["password"]
}
