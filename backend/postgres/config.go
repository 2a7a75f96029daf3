package postgres

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Config says how to reach one PostgreSQL: by ConnectionURL, or by
// Host, Port, Database and SSLMode. It holds no user name and no password.
type Config struct {
	// ConnectionURL is
	// postgresql://{{username}}:{{password}}@host:port/database?sslmode=verify-full;
	// the user information may be left out.
	ConnectionURL string `json:"connection_url,omitempty"`
	// Host is a name or an address; IPv6 with or without brackets. It may be several,
	// separated by commas, each of which may have a port of its own behind a colon.
	Host string `json:"host,omitempty"`
	// Port is 1 to 65535; zero means 5432.
	Port     int    `json:"port,omitempty"`
	Database string `json:"database,omitempty"`
	// SSLMode is disable, require, verify-ca or verify-full; empty means
	// verify-full. As in libpq, require checks the certificate's chain when TLSCA
	// is given and nothing otherwise.
	SSLMode string `json:"sslmode,omitempty"`
	// TargetSessionAttrs is read-write or primary, of which empty means read-write where
	// there are several hosts. Either has the engine use the host that is the primary.
	TargetSessionAttrs string `json:"target_session_attrs,omitempty"`
	// TLSCA is the certificates (PEM) that the server's must descend from; empty
	// means those of the operating system.
	TLSCA string `json:"tls_ca,omitempty"`
	// TLSCertificate and TLSKey (PEM) are this client's own; both or none.
	TLSCertificate string `json:"tls_certificate,omitempty"`
	TLSKey         string `json:"tls_key,omitempty"`
	// TLSServerName is the name in the server's certificate, where it is not Host; with
	// several hosts, in that of each.
	TLSServerName string `json:"tls_server_name,omitempty"`
	// MaxOpenConnections of the administrator's pool, 1 to 64; zero means 4.
	// Trying a login opens one more for a moment.
	MaxOpenConnections int `json:"max_open_connections,omitempty"`
	// ConnectTimeout for resolving, dialing, TLS and authentication together, 1 to
	// 60 s; zero means 5 s. Requests that log in wait for that long, and Vault seals
	// and steps down only after the requests that are under way.
	ConnectTimeout time.Duration `json:"connect_timeout,omitempty"`
	// PasswordAuthentication is how passwords are given to the server:
	// scram-sha-256 as verifiers, password in clear text (for servers and
	// poolers that know no SCRAM); empty means scram-sha-256.
	PasswordAuthentication string `json:"password_authentication,omitempty"`
	// LeaveUnproven says that nobody logs in with what has to be refused.
	LeaveUnproven bool `json:"leave_unproven,omitempty"`
	// ChannelBinding is prefer or disable; empty means prefer. Over TLS, prefer has the
	// login prove that nobody ends TLS in between; disable goes without that proof, for
	// a proxy that ends TLS and begins it again.
	ChannelBinding string `json:"channel_binding,omitempty"`
}

// String implements fmt.Stringer without showing anything, because of TLSKey.
func (Config) String() string { return rotation.Redacted }

// GoString implements fmt.GoStringer without showing anything.
func (Config) GoString() string { return rotation.Redacted }

// The values of PasswordAuthentication.
const (
	AuthenticateSCRAM    = "scram-sha-256"
	AuthenticatePassword = "password"
)

// The values of ChannelBinding.
const (
	BindingPreferred = "prefer"
	BindingDisabled  = "disable"
)

// Endpoint is where a connection leads.
type Endpoint struct {
	// Addresses are more than one where any of several hosts may be the primary.
	Addresses []Address
	Database  string
	SSLMode   string
	// TargetSessionAttrs is read-write or primary where only the primary will do, else
	// empty.
	TargetSessionAttrs string
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?$`)

// WithDefaults returns the configuration that is in force: every field that was
// left out and has a default, has it.
func (c Config) WithDefaults() Config {
	if c.MaxOpenConnections == 0 {
		c.MaxOpenConnections = 4
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.PasswordAuthentication == "" {
		c.PasswordAuthentication = AuthenticateSCRAM
	}
	if c.ChannelBinding == "" {
		c.ChannelBinding = BindingPreferred
	}
	return c
}

// SameServer reports whether both lead to the same server in the same way, so
// that what is sent by one may be sent by the other.
func (c Config) SameServer(other Config) bool {
	for _, each := range []*Config{&c, &other} {
		*each = each.WithDefaults()
		each.MaxOpenConnections, each.ConnectTimeout, each.LeaveUnproven = 0, 0, false
	}
	return c == other
}

// Validate returns an error that wraps rotation.ErrInvalid and names the field
// and the fix, if the connection cannot work as described. It reaches for no
// server.
func (c Config) Validate() error {
	c = c.WithDefaults()
	endpoint, err := c.Endpoint()
	if err != nil {
		return err
	}
	if c.MaxOpenConnections < 1 || c.MaxOpenConnections > 64 {
		return rotation.Invalid("max_open_connections", "%d is not within 1 and 64", c.MaxOpenConnections)
	}
	if c.ConnectTimeout < time.Second || c.ConnectTimeout > time.Minute {
		return rotation.Invalid("connect_timeout", "is %s; it must be from 1s to 1m", rotation.Span(c.ConnectTimeout))
	}
	if a := c.PasswordAuthentication; a != AuthenticateSCRAM && a != AuthenticatePassword {
		return rotation.Invalid("password_authentication", "%q is not known: use scram-sha-256, or password for servers without SCRAM", a)
	}
	if b := c.ChannelBinding; b != BindingPreferred && b != BindingDisabled {
		return rotation.Invalid("channel_binding", "%q is not known: use prefer, or disable for a proxy that terminates TLS and opens it again", b)
	}
	_, err = c.tlsConfig(endpoint)
	return err
}

// Endpoint returns where the connection leads. Its error wraps
// rotation.ErrInvalid.
func (c Config) Endpoint() (Endpoint, error) {
	given := place{Host: c.Host, Port: c.Port, Database: c.Database, SSLMode: c.SSLMode, TargetSessionAttrs: c.TargetSessionAttrs}
	if c.ConnectionURL == "" {
		return given.endpoint("host")
	}
	if given != (place{}) {
		return Endpoint{}, rotation.Invalid("connection_url", "excludes host, port, database, sslmode and target_session_attrs: leave these out, or the URL")
	}
	given, err := parseURL(c.ConnectionURL)
	if err != nil {
		return Endpoint{}, err
	}
	return given.endpoint("connection_url")
}

// place is where a connection leads as somebody wrote it.
type place struct {
	Host               string
	Port               int
	Database           string
	SSLMode            string
	TargetSessionAttrs string
}

// endpoint returns it with its defaults and its hosts in one form, or what is wrong
// with it. Field is what the hosts were given in.
func (p place) endpoint(field string) (Endpoint, error) {
	if p.Port == 0 {
		p.Port = 5432
	}
	if p.Port < 1 || p.Port > 65535 {
		return Endpoint{}, rotation.Invalid("port", "%d is not within 1 and 65535", p.Port)
	}
	addresses, err := parseHosts(field, p.Host, p.Port)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addresses: addresses, Database: p.Database, SSLMode: p.SSLMode, TargetSessionAttrs: p.TargetSessionAttrs}
	if e.SSLMode == "" {
		e.SSLMode = "verify-full"
	}
	if len(addresses) > 1 && e.TargetSessionAttrs == "" {
		e.TargetSessionAttrs = targetReadWrite
	}
	if err := CheckName("database", e.Database); err != nil {
		return Endpoint{}, err
	}
	if err := checkTarget("target_session_attrs", e.TargetSessionAttrs); err != nil {
		return Endpoint{}, err
	}
	return e, checkSSLMode("sslmode", e.SSLMode)
}

// modeName is what may be shown of a mode that is none: what is longer might be a password
// that was written in the wrong place.
var modeName = regexp.MustCompile(`^[A-Za-z-]{0,12}$`)

// checkSSLMode refuses what libpq knows and does not keep to, and what it does not know.
func checkSSLMode(field, mode string) error {
	switch mode {
	case "disable", "require", "verify-ca", "verify-full":
		return nil
	case "allow", "prefer":
		return rotation.Invalid(field, "sslmode=%s would fall back to no TLS without telling anybody: use verify-full, verify-ca or require, or disable on a trusted network", mode)
	}
	shown := "this mode"
	if modeName.MatchString(mode) {
		shown = strconv.Quote(mode)
	}
	return rotation.Invalid(field, "%s is no sslmode: use verify-full, verify-ca, require, or disable for no TLS", shown)
}

// checkHost refuses everything but one host name or address. It is not quoted:
// a password that was written in the wrong place ends up here.
func checkHost(field, host string) (string, error) {
	if host == "" {
		return "", rotation.Invalid(field, "names no host; a host name or address is needed (Unix sockets are not supported, applications elsewhere could not use them)")
	}
	if address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil && address.Zone() == "" {
		return address.String(), nil
	}
	name, port, _ := strings.Cut(host, ":")
	if _, err := strconv.ParseUint(port, 10, 16); err == nil && hostName.MatchString(name) {
		return "", rotation.Invalid(field, "contains a port: give it in the field of its own, port (or application_port)")
	}
	if !hostName.MatchString(host) {
		return "", rotation.Invalid(field, "contains no valid host name or address: give only that, such as db.example.com, without a scheme, a path or a password")
	}
	return host, nil
}

// hostPort joins both, with brackets around an IPv6 address.
func hostPort(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// ReadConfig decodes and checks the configuration of an administrator.
func ReadConfig(s rotation.Secret) (Config, error) {
	c, err := input.Decode[Settings](s.Config)
	if err != nil {
		return c.Config, err
	}
	return c.WithDefaults(), c.Validate()
}
