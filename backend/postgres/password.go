package postgres

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// RandomPassword is one that nobody knows.
func RandomPassword() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

const (
	// maxPassword in bytes is what common drivers and poolers still take.
	maxPassword = 1024
	// MaxName in bytes is where PostgreSQL cuts an identifier off (NAMEDATALEN-1),
	// silently: a longer name would mean another role.
	MaxName = 63
	// scramIterations and scramSalt are PostgreSQL's own defaults.
	scramIterations = 4096
	scramSalt       = 16
)

// CheckPassword refuses passwords that PostgreSQL and the drivers of
// applications may not agree on. Unlike PostgreSQL, which then hashes the bytes
// as they are, it refuses what SASLprep (RFC 4013) prohibits.
func CheckPassword(field, password string) error {
	if err := input.CheckPrintable(field, password, maxPassword); err != nil {
		return err
	}
	// RFC 3454 lists the zero width space both as mapped to nothing and as a
	// space, and implementations differ in which they follow.
	prohibited := strings.ContainsRune(password, '\u200b')
	for _, set := range stringprep.SASLprep.Prohibits[2:] { // 0: unassigned, 1: spaces, which are mapped
		prohibited = prohibited || strings.ContainsFunc(password, set.Contains)
	}
	prepared, err := stringprep.SASLprep.Prepare(password)
	if prohibited || (err != nil && !unassigned(password)) || (err == nil && prepared == "") {
		return rotation.Invalid(field, "contains characters that SASLprep (RFC 4013) prohibits, such as zero-width characters or mixed text directions. Drivers disagree about them: use others")
	}
	return nil
}

// prepare returns the form of a password that takes part in SCRAM, exactly as
// PostgreSQL and libpq prepare it: SASLprep, or the password as it is when that
// is not possible, in particular when it has characters newer than Unicode 3.2,
// such as emoji. pgx must be given this form, because it prepares by RFC 8265,
// which leaves a ligature alone that SASLprep takes apart, but which changes
// nothing any more about a prepared password.
func prepare(password string) string {
	prepared, err := stringprep.SASLprep.Prepare(password)
	if err != nil || unassigned(password) {
		return password
	}
	return prepared
}

// unassigned reports whether a character is not in Unicode 3.2 (RFC 3454 table A.1).
func unassigned(password string) bool {
	return strings.ContainsFunc(password, stringprep.TableA1.Contains)
}

// scramVerifier returns what PostgreSQL stores of a password (RFC 5803):
// SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>. The password cannot
// be computed from it, nor can somebody who has it log in with it. Every call
// picks another salt.
func scramVerifier(password string) (string, error) {
	client, err := scram.SHA256.NewClientUnprepped("", prepare(password), "")
	if err != nil {
		return "", fmt.Errorf("make SCRAM verifier: %w", err)
	}
	salt := make([]byte, scramSalt)
	_, _ = rand.Read(salt) // never fails
	keys, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: scramIterations})
	if err != nil {
		return "", fmt.Errorf("make SCRAM verifier: %w", err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(keys.StoredKey), b64(keys.ServerKey)), nil
}

// CheckName refuses what cannot be the name of a PostgreSQL role or database.
// Anything else can, quotes and semicolons included.
func CheckName(field, name string) error {
	if err := input.CheckText(field, name, MaxName); err != nil {
		return fmt.Errorf("%w; PostgreSQL names have 1 to %d bytes", err, MaxName)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return rotation.Invalid(field, "contains a control character")
	}
	return nil
}
