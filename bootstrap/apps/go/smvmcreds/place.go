package smvmcreds

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// requireAuth is how a server has to ask for the password unless the
// configuration says otherwise: any other way shows it, or what it can be guessed
// from, to whoever poses as the server.
const requireAuth = "scram-sha-256"

// login sets whom a connection logs in as.
func (c *Credentials) login(config *pgx.ConnConfig, secret string) error {
	config.User, config.Password = c.Value(secret, "username"), c.Value(secret, "password")
	if config.User == "" {
		return fmt.Errorf("connect to PostgreSQL: the credentials have no %s_username", secret)
	}
	config.RequireAuth = cmp.Or(config.RequireAuth, requireAuth)
	return nil
}

// place sets where a connection goes, and how TLS proves that it got there: all
// of it is the credentials', so that a password is sent to no place but its own.
// Of config it leaves a client certificate, and what they do not name.
func (c *Credentials) place(config *pgx.ConnConfig, secret string) error {
	trust, err := c.trust(secret)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	address, named := c.address(secret)
	at, err := pgx.ParseConfig(address)
	if err != nil {
		// The cause quotes the address.
		return fmt.Errorf("connect to PostgreSQL: where %s is, by the credentials or by a PG… variable of the environment, is not to be understood", secret)
	}
	adopt(config, at, named)
	own := config.TLSConfig
	config.Host, config.Port, config.Database = at.Host, at.Port, at.Database
	config.TLSConfig = trust.at(at.Host, at.TLSConfig, own)
	config.Fallbacks = slices.Clone(at.Fallbacks)
	for i, other := range config.Fallbacks {
		config.Fallbacks[i] = &pgconn.FallbackConfig{
			Host: other.Host, Port: other.Port, TLSConfig: trust.at(other.Host, other.TLSConfig, own),
		}
	}
	return nil
}

// address returns the URL of the server, without a login, and the parameters that
// the credentials name in connection_string. Readers that do not know that have
// host, port and database. What concerns TLS is in the URL only to keep libpq's
// variables and files out: trust decides it.
func (c *Credentials) address(secret string) (address string, named url.Values) {
	text := c.Value(secret, "connection_string")
	place, query, _ := strings.Cut(text, "?")
	_, place, _ = strings.Cut(place, "@")
	named, _ = url.ParseQuery(query)
	all := url.Values{}
	for name, values := range named {
		all[name] = values
	}
	if text == "" {
		place = "/" + url.PathEscape(c.Value(secret, "database"))
		all.Set("host", c.Value(secret, "host"))
		all.Set("port", c.Value(secret, "port"))
	}
	all.Set("sslmode", "require")
	for _, file := range []string{"sslrootcert", "sslcert", "sslkey"} {
		all.Set(file, "")
	}
	return "postgresql://" + place + "?" + all.Encode(), named
}

// adopt takes over the parameters that the credentials name, and no others: at
// also has those of the environment.
func adopt(config, at *pgx.ConnConfig, named url.Values) {
	for name := range named {
		switch name {
		case "target_session_attrs":
			config.ValidateConnect = at.ValidateConnect
		case "sslnegotiation":
			config.SSLNegotiation = at.SSLNegotiation
		case "channel_binding":
			config.ChannelBinding = at.ChannelBinding
		case "require_auth":
			config.RequireAuth = at.RequireAuth
		case "connect_timeout":
			config.ConnectTimeout, config.DialFunc = at.ConnectTimeout, at.DialFunc
		default:
			if value, ok := at.RuntimeParams[name]; ok {
				config.RuntimeParams[name] = value
			}
		}
	}
}
