package postgres

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Way is where and how applications reach a database. It belongs to a value: it
// is handed out beside the value that was proven there, and beside no other.
type Way struct {
	// Host is a name or an address; or several, separated by commas.
	Host string `json:"host"`
	// Port is that of the first host, and of the others too if there are no Ports.
	Port int `json:"port"`
	// Ports has one for each host, where they differ.
	Ports    []int  `json:"ports,omitempty"`
	Database string `json:"database"`
	// SSLMode is disable, require, verify-ca or verify-full.
	SSLMode string `json:"sslmode"`
	// RootCertificate is the PEM text of the authorities that the server's certificate
	// must descend from; empty means those of the operating system.
	RootCertificate string `json:"ssl_root_certificate,omitempty"`
	// Parameters are further ones of libpq, by name.
	Parameters map[string]string `json:"parameters,omitempty"`
}

func (w Way) equal(other Way) bool {
	return w.Host == other.Host && w.Port == other.Port && slices.Equal(w.Ports, other.Ports) && w.Database == other.Database && w.SSLMode == other.SSLMode &&
		w.RootCertificate == other.RootCertificate && maps.Equal(w.Parameters, other.Parameters)
}

// to leads the way to these hosts.
func (w Way) to(addresses []Address) Way {
	w.Host, _ = joinHosts(addresses)
	w.Port, w.Ports = addresses[0].Port, nil
	if slices.ContainsFunc(addresses, func(a Address) bool { return a.Port != w.Port }) {
		for _, a := range addresses {
			w.Ports = append(w.Ports, a.Port)
		}
	}
	return w
}

// addresses are the hosts that the way leads to.
func (w Way) addresses() []Address {
	var all []Address
	for i, host := range strings.Split(w.Host, ",") {
		a := Address{host, w.Port}
		if i < len(w.Ports) {
			a.Port = w.Ports[i]
		}
		all = append(all, a)
	}
	return all
}

// Fields are what creds answers of the way.
func (w Way) Fields() map[string]string {
	hosts, ports := joinHosts(w.addresses())
	fields := map[string]string{
		"host": hosts, "port": ports, "database": w.Database,
		"sslmode": w.SSLMode, "ssl_root_certificate": w.RootCertificate,
	}
	if target := w.Parameters[targetParameter]; target != "" && strings.Contains(w.Host, ",") {
		fields[targetParameter] = target
	}
	return fields
}

// targetParameter is the parameter of libpq that says which of several hosts will do.
const targetParameter = "target_session_attrs"

// ConnectionString returns the URL with which an application logs in (libpq's
// syntax). All but RFC 3986's unreserved characters are percent-encoded in the
// parts, because drivers differ in which others they take as they are.
func (w Way) ConnectionString(l Login) string {
	var url strings.Builder
	url.WriteString("postgresql://" + encode(l.Username) + ":" + encode(l.Password) + "@" + Endpoint{Addresses: w.addresses()}.String() +
		"/" + encode(w.Database) + "?sslmode=" + w.SSLMode)
	for _, name := range slices.Sorted(maps.Keys(w.Parameters)) {
		url.WriteString("&" + name + "=" + encode(w.Parameters[name]))
	}
	return url.String()
}

// Application says how applications reach the server, where that is not the way of
// the engine. What is left out is as it is for the engine.
type Application struct {
	// ApplicationHost is a name or an address, or several as in Config.Host.
	ApplicationHost string `json:"application_host,omitempty"`
	// ApplicationPort is 1 to 65535.
	ApplicationPort int `json:"application_port,omitempty"`
	// ApplicationParameters are those of libpq
	// (https://www.postgresql.org/docs/current/libpq-connect.html, section 34.1.2)
	// that say neither who logs in nor where.
	ApplicationParameters map[string]string `json:"application_parameters,omitempty"`
}

// Settings is all that is stored about a connection, but for its login.
type Settings struct {
	Config
	Application
	Access
	// WayNumber is the number of the way that values are given from now on; zero is
	// the first.
	WayNumber int `json:"way_number,omitempty"`
	// EarlierWays are the ones before, by number, as long as a value may have them.
	EarlierWays map[int]Way `json:"earlier_ways,omitempty"`
}

// SettingsOf reads the configuration of a connection's administrator.
func SettingsOf(admin *rotation.Secret) (settings Settings, err error) {
	if err := json.Unmarshal(admin.Config, &settings); err != nil {
		return settings, fmt.Errorf("decode connection: %w", err)
	}
	return settings, nil
}

// Validate returns an error that wraps rotation.ErrInvalid and names the field and
// the fix, if the connection cannot work as described. It reaches for no server.
func (c Settings) Validate() error {
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if err := c.validate(); err != nil {
		return err
	}
	_, err := c.Way()
	return err
}

// Way returns the way that values are given from now on. Its errors wrap
// rotation.ErrInvalid.
func (c Settings) Way() (Way, error) {
	e, err := c.Endpoint()
	if err != nil {
		return Way{}, err
	}
	if c.ApplicationPort != 0 && (c.ApplicationPort < 1 || c.ApplicationPort > 65535) {
		return Way{}, rotation.Invalid("application_port", "%d is not within 1 and 65535", c.ApplicationPort)
	}
	addresses, err := c.applicationAddresses(e)
	if err != nil {
		return Way{}, err
	}
	way := Way{Database: e.Database, SSLMode: e.SSLMode, RootCertificate: c.TLSCA}.to(addresses)
	parameters := map[string]string{}
	if c.ApplicationHost == "" && e.TargetSessionAttrs != "" {
		parameters[targetParameter] = e.TargetSessionAttrs
	} else if len(addresses) > 1 {
		parameters[targetParameter] = targetReadWrite
	}
	if c.ChannelBinding == BindingDisabled && slices.Equal(addresses, e.Addresses) {
		parameters["channel_binding"] = BindingDisabled // what the engine goes through
	}
	if len(parameters) > 0 {
		way.Parameters = parameters
	}
	return way.with(c.ApplicationParameters)
}

// applicationAddresses are the hosts of the engine, unless applications have others.
func (c Settings) applicationAddresses(e Endpoint) ([]Address, error) {
	port := c.ApplicationPort
	if c.ApplicationHost != "" {
		if port == 0 {
			port = e.Addresses[0].Port
		}
		return parseHosts("application_host", c.ApplicationHost, port)
	}
	addresses := slices.Clone(e.Addresses)
	for i := range addresses {
		if port != 0 {
			addresses[i].Port = port
		}
	}
	return addresses, nil
}

// with adds the parameters of applications. Of TLS they may say the mode only.
func (w Way) with(parameters map[string]string) (Way, error) {
	const field = "application_parameters"
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		value := parameters[name]
		switch {
		case !parameterName.MatchString(name):
			return Way{}, rotation.Invalid(field, "names something that is not a libpq parameter; write for example target_session_attrs=read-write")
		case ownParameters[name] != "":
			return Way{}, rotation.Invalid(field, "%s cannot be set here: %s", name, ownParameters[name])
		case name == "sslmode":
			if err := checkSSLMode(field, value); err != nil {
				return Way{}, err
			}
			w.SSLMode = value
			continue
		}
		if err := input.CheckPrintable(field, value, 1024); err != nil {
			return Way{}, err
		}
		if w.Parameters == nil {
			w.Parameters = map[string]string{}
		}
		w.Parameters[name] = value
	}
	return w, nil
}

var parameterName = regexp.MustCompile(`^[a-z][a-z_]{0,62}$`)

// ownParameters are the parameters of libpq that say who logs in and where, each
// with what says so here.
var ownParameters = map[string]string{
	"host": "use application_host", "hostaddr": "use application_host", "port": "use application_port", "dbname": "it is the connection's database",
	"user": "it belongs to the value", "password": "it belongs to the value", "passfile": "the password belongs to the value",
	"service": "it would lead to another server", "servicefile": "it would lead to another server",
	"sslrootcert": "creds answers ssl_root_certificate, from tls_ca", "sslcert": "it is a file of the application's own", "sslkey": "it is a file of the application's own",
	"sslpassword": "it is the application's own", "requiressl": "use sslmode", "sslnegotiation": "it is the application's own",
}

// Moved returns the settings as they follow earlier ones: with another number if the
// way is another one, and with those of the earlier ways that are in use, and the
// last one, which a value that is being made may have.
func (c Settings) Moved(earlier Settings, inUse map[int]bool) (Settings, error) {
	before, err := earlier.Way()
	if err != nil {
		return c, err
	}
	now, err := c.Way()
	if err != nil || now.equal(before) {
		return c, err
	}
	c.WayNumber = earlier.WayNumber + 1
	c.EarlierWays = map[int]Way{earlier.WayNumber: before}
	returned := -1
	for number, way := range earlier.EarlierWays {
		c.WayNumber = max(c.WayNumber, number+1)
		switch {
		case way.equal(now):
			returned = number
		case inUse[number]:
			c.EarlierWays[number] = way
		}
	}
	if returned >= 0 {
		c.WayNumber = returned
	}
	return c, nil
}

// wayField is the field of a database value that numbers its way. A value that has
// none is of a time before there was a second one: its number is zero.
const wayField = "way"

// WayOf returns the number of the way of a database value.
func WayOf(v rotation.Material) int {
	number, _ := strconv.Atoi(v[wayField])
	return number
}

// WayOf returns the way of a value.
func (c Settings) WayOf(v rotation.Material) (Way, error) {
	number := WayOf(v)
	if number == c.WayNumber {
		return c.Way()
	}
	way, known := c.EarlierWays[number]
	if !known {
		return Way{}, fmt.Errorf("way %d is not kept", number)
	}
	return way, nil
}

// OnWay returns v as a value of that way.
func OnWay(v rotation.Material, number int) rotation.Material {
	if WayOf(v) == number {
		return v
	}
	moved := maps.Clone(v)
	moved[wayField] = strconv.Itoa(number)
	return moved
}
