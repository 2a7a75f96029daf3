package database

import (
	"net/url"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Digests implements secret.Values.
func (*driver) Digests(v rotation.Material) ([]secret.Digest, error) { return digests(v) }

// Guesses implements secret.Values.
func (*driver) Guesses(text string) []secret.Digest { return guesses(text) }

// Digests implements secret.Values.
func (*admin) Digests(v rotation.Material) ([]secret.Digest, error) { return digests(v) }

// Guesses implements secret.Values.
func (*admin) Guesses(text string) []secret.Digest { return guesses(text) }

// digests are those of the password, and of the verifier, which a dump of the server or
// the file of a pooler shows.
func digests(v rotation.Material) ([]secret.Digest, error) {
	password, err := v.Content("password")
	if err != nil {
		return nil, err
	}
	all := []secret.Digest{secret.DigestOf(password)}
	if v["verifier"] != "" {
		all = append(all, secret.DigestOf(v["verifier"]))
	}
	return all, nil
}

// guesses are the text itself, and the password in it if it is a connection string.
func guesses(text string) []secret.Digest {
	all := []secret.Digest{secret.DigestOf(text)}
	address, err := url.Parse(strings.TrimSpace(text))
	if err != nil || address.User == nil {
		return all
	}
	password, _ := address.User.Password()
	return append(all, secret.DigestOf(password))
}
