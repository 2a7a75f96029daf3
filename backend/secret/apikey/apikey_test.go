package apikey

import (
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestConfigRefused(t *testing.T) {
	typ := driver{}
	conformance.RefusesConfigurations(t, typ, map[string]conformance.Configuration{
		"prefix":      {Config{Prefix: "1x"}, []string{"prefix"}},
		"long prefix": {Config{Prefix: strings.Repeat("x", 33)}, []string{"prefix"}},
		"short key":   {Config{Length: 21}, []string{"length", "22"}},
		"long key":    {Config{Length: 129}, []string{"length", "128"}},
	})
	expect.OK(t, typ.Validate(nil))
	expect.OK(t, typ.Validate([]byte("{}")))
}

func TestImportRefused(t *testing.T) {
	conformance.RefusesImports(t, driver{}, "short", "sixteen letters with spaces", "sixteen-lettersé-and-one", strings.Repeat("x", 513))
}

// TestFormat checks the checksum against a value computed elsewhere:
// python3 -c 'import zlib; print(zlib.crc32(b"smvm_abc"))' is 1213120059.
func TestFormat(t *testing.T) {
	if got := checksum("smvm_abc"); got != "1K67wZ" {
		t.Errorf("checksum is %s, want %s", got, "1K67wZ")
	}
	typ := driver{}
	s := conformance.SecretOf(t, "api_key", Config{})
	v, err := typ.Create(t.Context(), s)
	expect.OK(t, err)
	key := v["key"]
	if !strings.HasPrefix(key, "smvm_") || len(key) != len("smvm_")+defaultLength+checksumLength {
		t.Errorf("a key of %d characters is not in the format", len(key))
	}
	for i := range len(key) {
		typo := []byte(key)
		typo[i]++
		expect.Refused(t, typ.Test(t.Context(), s, rotation.Material{"key": string(typo)}))
	}
}
