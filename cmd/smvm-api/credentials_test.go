package main

import (
	"os"
	"path/filepath"
	"testing"
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
