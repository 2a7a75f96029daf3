package testenv

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// makeDirectory makes a directory of the server's user.
func (pg *Postgres) makeDirectory(name string) error {
	if err := errors.Join(os.Mkdir(pg.scratch.path(name), 0o700), own(pg.scratch.path(name), pg.user)); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// configure writes postgresql.conf, pg_hba.conf and what TLS needs.
func (pg *Postgres) configure() error {
	settings := map[string]string{
		"listen_addresses":        pg.Host,
		"port":                    fmt.Sprint(pg.Port),
		"unix_socket_directories": pg.scratch.path("socket"),
		"password_encryption":     "scram-sha-256",
		"log_statement":           "all",
		"log_connections":         "on",
		"log_line_prefix":         "%m [%p] %u@%d ",
		"log_timezone":            "UTC",
		// In files of the data directory, which are removed with it however the server ends.
		"dynamic_shared_memory_type": "mmap",
	}
	if pg.opts.TLS {
		if err := pg.configureTLS(settings); err != nil {
			return err
		}
	}
	maps.Copy(settings, pg.opts.Settings)
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	hba := append(slices.Clone(pg.opts.HBA), "local all all scram-sha-256", "host all all 127.0.0.1/32 scram-sha-256",
		"host replication all 127.0.0.1/32 scram-sha-256")
	return errors.Join(
		writeOwned(pg.scratch.path("data", "postgresql.conf"), conf.String(), pg.user),
		writeOwned(pg.scratch.path("data", "pg_hba.conf"), strings.Join(hba, "\n")+"\n", pg.user),
	)
}

// configureTLS makes the certificates and adds the settings that name them.
func (pg *Postgres) configureTLS(settings map[string]string) error {
	certs, err := newCertificates()
	if err != nil {
		return err
	}
	cert, key := pg.scratch.path("data", "server.crt"), pg.scratch.path("data", "server.key")
	settings["ssl"], settings["ssl_cert_file"], settings["ssl_key_file"] = "on", cert, key
	pg.CAPEM, pg.CAFile = certs.ca, pg.scratch.path("ca.pem")
	return errors.Join(
		writeOwned(cert, certs.cert, pg.user),
		writeOwned(key, certs.key, pg.user),
		os.WriteFile(pg.CAFile, []byte(certs.ca), 0o644), //nolint:gosec // public, and psql of any user reads it
	)
}
