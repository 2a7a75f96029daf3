package smvmcreds

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// authority is a certificate in PEM.
func authority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// answered are credentials of an answer of creds/<role>, in JSON.
func answered(t *testing.T, fields string) *Credentials {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(fields))
	decoder.UseNumber()
	data := map[string]any{}
	if err := decoder.Decode(&data); err != nil {
		t.Fatal(err)
	}
	c, err := parse(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// placed is the configuration of a connection, as a pool hands it over.
func placed(t *testing.T, c *Credentials) (*pgx.ConnConfig, error) {
	t.Helper()
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.login(config.ConnConfig, "db"); err != nil {
		return nil, err
	}
	return config.ConnConfig, c.place(config.ConnConfig, "db")
}

const oldAnswer = `{"version": 1, "ttl": 10, "db_username": "orders_a", "db_password": "p", "db_host": "db.example.com", "db_port": "5433",
	"db_database": "orders", "db_connection_string": "postgresql://orders_a:p%40ss@db.example.com:5433/orders?sslmode=MODE"}`

// hostileEnvironment has everything that libpq looks at say something weaker.
func hostileEnvironment(t *testing.T) {
	t.Helper()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".postgresql"), 0o700); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(home, ".postgresql", "root.crt")
	if err := os.WriteFile(root, []byte(authority(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HOME": home, "PGSSLMODE": "disable", "PGSSLROOTCERT": root, "PGHOST": "elsewhere", "PGPORT": "1", "PGDATABASE": "other",
		"PGUSER": "other", "PGPASSWORD": "other", "PGOPTIONS": "-c search_path=other",
	} {
		t.Setenv(name, value)
	}
}

// TestPlace is what a connection is made with, from what creds answers: with the
// fields of now, and with those from before there was sslmode. No environment
// makes it less.
func TestPlace(t *testing.T) {
	hostileEnvironment(t)
	ca, err := json.Marshal(authority(t))
	if err != nil {
		t.Fatal(err)
	}
	now := func(mode, certificate string) string {
		return strings.TrimSuffix(strings.Replace(oldAnswer, "MODE", mode, 1), "}") + `, "db_sslmode": "` + mode + `", "db_ssl_root_certificate": ` + certificate + `}`
	}
	for name, test := range map[string]struct {
		answer                    string
		tls, name, chain, private bool
	}{
		"verify-full":         {now("verify-full", `""`), true, true, false, false},
		"verify-full, CA":     {now("verify-full", string(ca)), true, true, false, true},
		"verify-ca":           {now("verify-ca", `""`), true, false, true, false},
		"verify-ca, CA":       {now("verify-ca", string(ca)), true, false, true, true},
		"require":             {now("require", `""`), true, false, false, false},
		"require, CA":         {now("require", string(ca)), true, false, true, true},
		"disable":             {now("disable", `""`), false, false, false, false},
		"before, verify-full": {strings.Replace(oldAnswer, "MODE", "verify-full", 1), true, true, false, false},
		"before, require":     {strings.Replace(oldAnswer, "MODE", "require", 1), true, false, false, false},
		"before, disable":     {strings.Replace(oldAnswer, "MODE", "disable", 1), false, false, false, false},
		"no word about it":    {strings.Replace(oldAnswer, "?sslmode=MODE", "", 1), true, true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := placed(t, answered(t, test.answer))
			if err != nil {
				t.Fatal(err)
			}
			if config.Host != "db.example.com" || config.Port != 5433 || config.Database != "orders" || config.User != "orders_a" || config.Password != "p" {
				t.Errorf("it goes to %s:%d/%s as %s", config.Host, config.Port, config.Database, config.User)
			}
			if len(config.Fallbacks) != 0 || config.RequireAuth != "scram-sha-256" {
				t.Errorf("there are %d fallbacks, and the password is shown to who asks by %q", len(config.Fallbacks), config.RequireAuth)
			}
			found := config.TLSConfig
			if found == nil || !test.tls {
				if test.tls || found != nil {
					t.Errorf("TLS: %v", found != nil)
				}
				return
			}
			if found.ServerName != "db.example.com" || found.InsecureSkipVerify == test.name || (found.VerifyConnection != nil) != test.chain || (found.RootCAs != nil) != test.private {
				t.Errorf("TLS of %q, verified by name: %t, by chain: %t, against a CA that was given: %t",
					found.ServerName, !found.InsecureSkipVerify, found.VerifyConnection != nil, found.RootCAs != nil)
			}
		})
	}
}

// TestPlaceIsRefused has answers that would be used with less than they ask for.
func TestPlaceIsRefused(t *testing.T) {
	for name, change := range map[string]string{
		"prefer": `"db_sslmode": "prefer"`, "allow": `"db_sslmode": "allow"`, "a secret": `"db_sslmode": "postgresql://a:hunter2@b"`,
		"no PEM":          `"db_ssl_root_certificate": "junk hunter2"`,
		"blank":           `"db_ssl_root_certificate": "\n"`,
		"half a bundle":   `"db_ssl_root_certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"`,
		"no place at all": `"db_connection_string": "postgresql://a:hunter2@[b:hunter2/?sslmode=disable"`,
		"prefer before":   `"db_connection_string": "postgresql://orders_a:hunter2@db/orders?sslmode=prefer"`,
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.TrimSuffix(strings.Replace(oldAnswer, "MODE", "verify-full", 1), "}") + ", " + change + "}"
			if _, err := placed(t, answered(t, text)); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// TestPlaceOfSeveral has several hosts, and what else a connection string may name:
// every host is to prove itself by its own name.
func TestPlaceOfSeveral(t *testing.T) {
	hostileEnvironment(t)
	c := answered(t, `{"version": 1, "ttl": 10, "db_username": "orders_a", "db_password": "p", "db_sslmode": "verify-full", "db_ssl_root_certificate": "",
		"db_connection_string": "postgresql://orders_a:p@a.example.com:5433,b.example.com:5434/orders?sslmode=verify-full&target_session_attrs=read-write&application_name=orders"}`)
	config, err := placed(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Fallbacks) != 1 || config.TLSConfig.ServerName != "a.example.com" || config.Fallbacks[0].TLSConfig.ServerName != "b.example.com" ||
		config.Fallbacks[0].TLSConfig.InsecureSkipVerify || config.Fallbacks[0].Port != 5434 {
		t.Errorf("the hosts are %s and %v", config.Host, config.Fallbacks)
	}
	if config.ValidateConnect == nil || config.RuntimeParams["application_name"] != "orders" {
		t.Errorf("the parameters are lost: %v", config.RuntimeParams)
	}
}

// TestPlaceOfFields has credentials of files, which have no connection_string.
func TestPlaceOfFields(t *testing.T) {
	for host, unix := range map[string]bool{"db.example.com": false, "::1": false, "/run/postgresql": true} {
		c := NewCredentials(1, map[string]string{
			"db_username": "a", "db_password": "p", "db_host": host, "db_port": "5433", "db_database": "orders?sslmode=disable&host=elsewhere#",
		})
		config, err := placed(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != host || config.Port != 5433 || config.Database != c.Value("db", "database") || (config.TLSConfig == nil) != unix {
			t.Errorf("%s: it goes to %s:%d/%s, with TLS: %t", host, config.Host, config.Port, config.Database, config.TLSConfig != nil)
		}
	}
}

// TestPoolAt asks of a server of one's own that the way there is said.
func TestPoolAt(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable")
	s := open(t, &script{})
	for url, fine := range map[string]bool{
		"postgres://127.0.0.1:6432/orders": false, "postgres://127.0.0.1:6432/orders?sslmode=prefer": false, "postgres://127.0.0.1:6432/orders?sslmode=allow": false,
		"postgres://127.0.0.1:6432/orders?sslmode=disable": true, "postgres://127.0.0.1:6432/orders?sslmode=verify-full": true, "host=127.0.0.1 sslmode=require": true,
	} {
		config, err := pgxpool.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := s.NewPoolAt(t.Context(), config, "db")
		if (err == nil) != fine {
			t.Errorf("%s: %v", url, err)
		}
		if err == nil {
			pool.Close()
		}
	}
}
