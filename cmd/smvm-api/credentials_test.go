package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"gopkg.in/yaml.v3"

	"github.com/smvm/vault-plugin-secrets-smvm/bootstrap/apps/go/smvmcreds"
)

// TestFiles reads what the Agent's templates write: without quotes, and with the
// characters that need them.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		".env":                "# Written by Vault Agent; changes are lost.\nSMVM_VERSION=7\nDB_USER=orders_a\n# docker would keep these='\nDB_HOST='a$b\\c d#'\nDB_NAME=\"it's\"\nDB_PORT=\nDATABASE_PASSWORD=\"a\\\"b\\\\c\\$d\\`e=f\"\n",
		"config/secrets.yaml": "jwt_secret: \"\\u003csecret\\u003e\"\napi_key: \"key\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := (&files{dir: dir}).Read(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"db.username": "orders_a", "db.host": `a$b\c d#`, "db.database": "it's", "db.port": "", "db.password": "a\"b\\c$d`e=f", "jwt.secret": "<secret>", "api.key": "key", "jwt.algorithm": "HS256"} {
		secret, name := field[:len(field)-len(filepath.Ext(field))], filepath.Ext(field)[1:]
		if got := c.Value(secret, name); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if c.Version != 7 {
		t.Errorf("the version is %d", c.Version)
	}
}

// TestAsymmetricKeys reads keys that others verify with, from files and from the
// environment, and signs and verifies with them; a token of the key before is verified
// by that one's own algorithm.
func TestAsymmetricKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	es, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"EdDSA": ed, "RS256": rs, "PS256": rs, "ES256": es}
	for algorithm, key := range keys {
		for previous, before := range keys {
			settings := map[string]string{
				"jwt_algorithm": algorithm, "jwt_kid": "new", "jwt_private_key": privatePEM(t, key), "jwt_public_key": publicPEM(t, key),
				"jwt_previous_algorithm": previous, "jwt_previous_kid": "old", "jwt_previous_public_key": publicPEM(t, before),
			}
			reader := &files{dir: t.TempDir()}
			text, err := yaml.Marshal(settings)
			if err == nil {
				err = errors.Join(os.Mkdir(filepath.Join(reader.dir, "config"), 0o700), os.WriteFile(filepath.Join(reader.dir, ".env"), nil, 0o600),
					os.WriteFile(filepath.Join(reader.dir, "config", "secrets.yaml"), text, 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			signsAndVerifies(t, reader, previous, before)
			for name, value := range settings {
				t.Setenv(strings.ToUpper(name), value)
			}
			signsAndVerifies(t, &files{}, previous, before)
			for name := range settings {
				t.Setenv(strings.ToUpper(name), "")
			}
		}
	}
}

func signsAndVerifies(t *testing.T, reader *files, previous string, before crypto.Signer) {
	t.Helper()
	source, err := smvmcreds.Open(t.Context(), reader, smvmcreds.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	claims := jwt.MapClaims{"sub": "x", "exp": time.Now().Add(time.Minute).Unix()}
	token, err := source.SignToken(t.Context(), secretJWT, claims)
	if err != nil {
		t.Fatal(err)
	}
	old := jwt.NewWithClaims(jwt.GetSigningMethod(previous), claims)
	old.Header["kid"] = "old"
	earlier, err := old.SignedString(before)
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range []string{token, earlier} {
		if _, err := jwt.Parse(each, source.Keyfunc(secretJWT)); err != nil {
			t.Errorf("after %s: %v", previous, err)
		}
	}
}

func privatePEM(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func publicPEM(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// TestAuthorities reads the file that DB_SSLROOTCERT names. One that is missing or
// empty must not stand for the authorities of the system.
func TestAuthorities(t *testing.T) {
	dir := t.TempDir()
	full, empty := filepath.Join(dir, "full.pem"), filepath.Join(dir, "empty.pem")
	for path, text := range map[string]string{full: "a certificate", empty: ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DB_SSL_ROOT_CERTIFICATE", "another")
	for file, want := range map[string]string{full: "a certificate", "system": "", "": "another"} {
		t.Setenv("DB_SSLROOTCERT", file)
		c, err := (&files{}).Read(t.Context(), nil)
		if err != nil || c.Value("db", "ssl_root_certificate") != want {
			t.Errorf("of %q it makes %q, %v", file, c.Value("db", "ssl_root_certificate"), err)
		}
	}
	for _, file := range []string{empty, filepath.Join(dir, "missing"), dir} {
		t.Setenv("DB_SSLROOTCERT", file)
		if _, err := (&files{}).Read(t.Context(), nil); err == nil {
			t.Errorf("it takes %s", file)
		}
	}
}

// TestInClear tells addresses between machines without TLS from others.
func TestInClear(t *testing.T) {
	for address, want := range map[string]bool{
		"http://vault.example.com:8200": true, "http://10.0.0.1:8200": true, "HTTP://vault": true, "http://localhost.example.com": true,
		"https://vault.example.com:8200": false, "http://127.0.0.1:8100": false, "http://[::1]:8100": false, "http://localhost:8100": false,
	} {
		if got := inClear(address); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}
