package random

import (
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
)

// TestConformance runs the suite with and without a password policy.
func TestConformance(t *testing.T) {
	of := func(config Config, supplied string) func(t *testing.T) *conformance.Subject {
		return func(t *testing.T) *conformance.Subject {
			return conformance.New(t, New(conformance.Policies{}), "random", config, supplied)
		}
	}
	conformance.Run(t, map[string]func(t *testing.T) *conformance.Subject{
		"random":           of(Config{Length: 20, Charset: "abcdefghij-é"}, "first\nsecond"),
		"random by policy": of(Config{PasswordPolicy: "policy-made"}, "x"),
	})
}

func TestConfigRefused(t *testing.T) {
	typ := New(conformance.Policies{})
	conformance.RefusesConfigurations(t, typ, map[string]conformance.Configuration{
		"policy and more": {Config{PasswordPolicy: "p", Length: 20}, []string{"password_policy", "excludes"}},
		"policy name":     {Config{PasswordPolicy: "p\x01"}, []string{"password_policy"}},
		"too guessable":   {Config{Length: 10}, []string{"length", "64"}},
		"one character":   {Config{Length: 1024, Charset: "a"}, []string{"length", "64"}},
		"same twice":      {Config{Charset: "abcdefa"}, []string{"charset", "twice"}},
		"space":           {Config{Charset: "abcdef "}, []string{"charset"}},
		"control":         {Config{Charset: "abcdef\t"}, []string{"charset"}},
		"too long":        {Config{Length: 1025}, []string{"length", "1024"}},
		"negative":        {Config{Length: -1}, []string{"length"}},
		"wrong type":      {map[string]any{"length": "x"}, []string{"length"}},
	})
	expect.OK(t, typ.Validate(nil))
	expect.OK(t, typ.Validate([]byte("{}")))
	_, err := typ.Create(t.Context(), conformance.SecretOf(t, "random", Config{PasswordPolicy: "missing"}))
	if err == nil || !strings.Contains(err.Error(), `"missing"`) {
		t.Errorf("got %v, want the name of the policy", err)
	}
}
