// Package expect checks what calls return, and ends the test where nothing else makes sense.
package expect

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// OK ends the test if there is an error.
func OK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Refused checks that a target has refused a value.
func Refused(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, rotation.ErrRefused) {
		t.Fatalf("got %v, want a refusal", err)
	}
}

// Invalid checks that the request is called invalid, with these words.
func Invalid(t testing.TB, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, rotation.ErrInvalid) {
		t.Fatalf("got %v, want an invalid request", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not mention %q", err, word)
		}
	}
}

// SecretFree checks that a text shows nothing of the materials.
func SecretFree(t testing.TB, text string, materials ...rotation.Material) {
	t.Helper()
	for _, m := range materials {
		for field, content := range maps.All(m) {
			switch field {
			case "password", "verifier", "secret", "key", "value", "private_key":
				if strings.Contains(text, content) {
					t.Errorf("a text shows the %s: %s", field, text)
				}
			}
		}
	}
}
