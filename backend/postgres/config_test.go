package postgres_test

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

const aURL = "postgresql://{{username}}:{{password}}@db.example.com:6432/orders?sslmode=verify-ca"

// at is the endpoint with one host.
func at(host string, port int, database, sslmode string) postgres.Endpoint {
	return postgres.Endpoint{Addresses: []postgres.Address{{host, port}}, Database: database, SSLMode: sslmode}
}

// anyOf is the endpoint with several.
func anyOf(target string, addresses ...postgres.Address) postgres.Endpoint {
	return postgres.Endpoint{Addresses: addresses, Database: "orders", SSLMode: "verify-full", TargetSessionAttrs: target}
}

func TestEndpoint(t *testing.T) {
	for name, test := range map[string]struct {
		config postgres.Config
		want   postgres.Endpoint
	}{
		"URL":             {postgres.Config{ConnectionURL: aURL}, at("db.example.com", 6432, "orders", "verify-ca")},
		"short URL":       {postgres.Config{ConnectionURL: "postgres://db/orders"}, at("db", 5432, "orders", "verify-full")},
		"IPv6 URL":        {postgres.Config{ConnectionURL: "postgres://[::1]:1/a%2Fb%20c"}, at("::1", 1, "a/b c", "verify-full")},
		"parts":           {postgres.Config{Host: "db_1", Database: "orders"}, at("db_1", 5432, "orders", "verify-full")},
		"IPv6 parts":      {postgres.Config{Host: "[2001:db8::1]", Port: 6432, Database: "ö", SSLMode: "require"}, at("2001:db8::1", 6432, "ö", "require")},
		"IPv4 without []": {postgres.Config{Host: "127.0.0.1", Port: 65535, Database: "o", SSLMode: "disable"}, at("127.0.0.1", 65535, "o", "disable")},
		"several in a URL": {
			postgres.Config{ConnectionURL: "postgresql://{{username}}:{{password}}@a:1,b,[::1]:2/orders?target_session_attrs=primary"},
			anyOf("primary", postgres.Address{"a", 1}, postgres.Address{"b", 5432}, postgres.Address{"::1", 2}),
		},
		"several parts": {
			postgres.Config{Host: "a,b:2,::1,[::2]:3", Port: 1, Database: "orders"},
			anyOf("read-write", postgres.Address{"a", 1}, postgres.Address{"b", 2}, postgres.Address{"::1", 1}, postgres.Address{"::2", 3}),
		},
		"one, primary": {postgres.Config{Host: "a", Database: "orders", TargetSessionAttrs: "primary"}, anyOf("primary", postgres.Address{"a", 5432})},
	} {
		t.Run(name, func(t *testing.T) {
			expect.OK(t, test.config.Validate())
			got, err := test.config.Endpoint()
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v (%v), want %+v", got, err, test.want)
			}
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	ok := postgres.Config{Host: "db", Database: "orders", SSLMode: "disable"}
	with := func(change func(c *postgres.Config)) postgres.Config {
		c := ok
		change(&c)
		return c
	}
	fromURL := func(u string) postgres.Config { return postgres.Config{ConnectionURL: u} }
	for name, test := range map[string]struct {
		config postgres.Config
		words  []string
	}{
		"nothing":             {postgres.Config{}, []string{"host"}},
		"both":                {with(func(c *postgres.Config) { c.ConnectionURL = aURL }), []string{"connection_url", "excludes"}},
		"sslmode twice":       {postgres.Config{ConnectionURL: aURL, SSLMode: "require"}, []string{"connection_url", "excludes"}},
		"no database":         {postgres.Config{Host: "db"}, []string{"database"}},
		"long database":       {with(func(c *postgres.Config) { c.Database = strings.Repeat("x", 64) }), []string{"database", "63"}},
		"port":                {with(func(c *postgres.Config) { c.Port = 65536 }), []string{"port", "65535"}},
		"negative port":       {with(func(c *postgres.Config) { c.Port = -1 }), []string{"port", "65535"}},
		"a host twice":        {with(func(c *postgres.Config) { c.Host = "a,a:5432" }), []string{"host", "twice"}},
		"no second host":      {with(func(c *postgres.Config) { c.Host = "a," }), []string{"host", "no host"}},
		"many hosts":          {with(func(c *postgres.Config) { c.Host = "a,b,c,d,e,f,g,h,i" }), []string{"host", "9", "8"}},
		"port of a host":      {with(func(c *postgres.Config) { c.Host = "a:1,b:65536" }), []string{"host", "65535"}},
		"hosts with password": {with(func(c *postgres.Config) { c.Host = "u:hunter2@db,b" }), []string{"host", "65535"}},
		"hosts with more":     {with(func(c *postgres.Config) { c.Host = "a,b hunter2" }), []string{"host", "valid"}},
		"port in host":        {with(func(c *postgres.Config) { c.Host = "db.example.com:5433" }), []string{"host", "contains a port"}},
		"a standby":           {with(func(c *postgres.Config) { c.TargetSessionAttrs = "standby" }), []string{"target_session_attrs", "primary"}},
		"socket":              {with(func(c *postgres.Config) { c.Host = "/run/postgresql" }), []string{"host"}},
		"host with password":  {with(func(c *postgres.Config) { c.Host = "u:hunter2@db" }), []string{"host"}},
		"prefer":              {with(func(c *postgres.Config) { c.SSLMode = "prefer" }), []string{"sslmode", "verify-full"}},
		"allow":               {with(func(c *postgres.Config) { c.SSLMode = "allow" }), []string{"sslmode", "verify-full"}},
		"unknown sslmode":     {with(func(c *postgres.Config) { c.SSLMode = "on" }), []string{"sslmode", "disable"}},
		"connections":         {with(func(c *postgres.Config) { c.MaxOpenConnections = 65 }), []string{"max_open_connections", "64"}},
		"timeout":             {with(func(c *postgres.Config) { c.ConnectTimeout = time.Minute + 1 }), []string{"connect_timeout", "from 1s to 1m"}},
		"short timeout":       {with(func(c *postgres.Config) { c.ConnectTimeout = time.Millisecond }), []string{"connect_timeout", "1s"}},
		"authentication":      {with(func(c *postgres.Config) { c.PasswordAuthentication = "md5" }), []string{"password_authentication", "scram-sha-256"}},
		"TLS without TLS":     {with(func(c *postgres.Config) { c.TLSCA = pgtest.Shared.CAPEM }), []string{"sslmode", "verify-full"}},
		"CA":                  {with(func(c *postgres.Config) { c.SSLMode, c.TLSCA = "", "junk" }), []string{"tls_ca", "PEM"}},
		"CA with junk behind": {with(func(c *postgres.Config) { c.SSLMode, c.TLSCA = "", pgtest.Shared.CAPEM+"junk" }), []string{"tls_ca", "PEM"}},
		"broken CA": {with(func(c *postgres.Config) {
			c.SSLMode, c.TLSCA = "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
		}), []string{"tls_ca"}},
		"certificate alone": {with(func(c *postgres.Config) { c.SSLMode, c.TLSCertificate = "", pgtest.Shared.CAPEM }), []string{"tls_certificate", "tls_key", "both"}},
		"no key": {with(func(c *postgres.Config) {
			c.SSLMode, c.TLSCertificate, c.TLSKey = "", pgtest.Shared.CAPEM, pgtest.Shared.CAPEM
		}), []string{"tls_key"}},
		"server name":         {with(func(c *postgres.Config) { c.SSLMode, c.TLSServerName = "", "a b" }), []string{"tls_server_name"}},
		"URL scheme":          {fromURL("mysql://db/orders"), []string{"connection_url", "postgresql://"}},
		"URL not a URL":       {fromURL("host=db password=hunter2"), []string{"connection_url", "postgresql://"}},
		"URL with password":   {fromURL("postgresql://{{username}}:hunter2@db/orders"), []string{"connection_url", "{{password}}"}},
		"URL with user":       {fromURL("postgresql://app:{{password}}@db/orders"), []string{"connection_url", "{{username}}"}},
		"URL with both":       {fromURL("postgresql://app:hunter2@db/orders"), []string{"connection_url", "{{password}}"}},
		"URL, broken":         {fromURL("postgresql://app:hun/ter2@db/orders"), []string{"connection_url", "{{password}}"}},
		"URL, no at":          {fromURL("postgresql://app:hunter2/orders"), []string{"connection_url"}},
		"URL, hosts":          {fromURL("postgresql://{{username}}:{{password}}@a:1,b:x/orders"), []string{"connection_url", "65535"}},
		"URL, any host":       {fromURL("postgresql://a,b/orders?target_session_attrs=any"), []string{"target_session_attrs", "read-write"}},
		"URL, two targets":    {fromURL("postgresql://a,b/orders?target_session_attrs=primary&target_session_attrs=any"), []string{"target_session_attrs", "once"}},
		"URL, target twice":   {postgres.Config{ConnectionURL: aURL, TargetSessionAttrs: "primary"}, []string{"connection_url", "excludes"}},
		"URL, port":           {fromURL("postgresql://db:0/orders"), []string{"connection_url", "port"}},
		"URL, big port":       {fromURL("postgresql://db:99999/orders"), []string{"port"}},
		"URL, no database":    {fromURL("postgresql://db"), []string{"database"}},
		"URL, no host":        {fromURL("postgresql:///orders"), []string{"connection_url", "host"}},
		"URL, query":          {fromURL("postgresql://db/orders?search_path=x"), []string{"connection_url", "search_path"}},
		"URL, password query": {fromURL("postgresql://db/orders?password=hunter2"), []string{"connection_url", "password"}},
		"URL, two modes":      {fromURL("postgresql://db/orders?sslmode=disable&sslmode=require"), []string{"sslmode", "once"}},
		"URL, timeout":        {fromURL("postgresql://db/orders?connect_timeout=3"), []string{"field connect_timeout"}},
		"URL, CA file":        {fromURL("postgresql://db/orders?sslrootcert=/etc/passwd"), []string{"tls_ca"}},
		"URL, fragment":       {fromURL("postgresql://db/orders#hunter2"), []string{"connection_url"}},
		"URL, not UTF-8":      {fromURL("postgresql://db/\xff"), []string{"connection_url", "UTF-8"}},
		"URL, line":           {fromURL("postgresql://db/orders\n"), []string{"connection_url", "control"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.config.Validate()
			expect.Invalid(t, err, test.words...)
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "hun/") {
				t.Errorf("%q quotes the URL", err)
			}
		})
	}
}

func TestConnectionPrintsNothing(t *testing.T) {
	c := postgres.Config{Host: "db", TLSKey: "hunter2"}
	for _, text := range []string{c.String(), c.GoString(), postgres.Login{"app", "hunter2"}.String(), postgres.Login{"app", "hunter2"}.GoString()} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s shows a secret", text)
		}
	}
}

func TestConnectionString(t *testing.T) {
	for _, e := range []postgres.Endpoint{at("::1", 5432, "a/b?c#d %", "disable"), at("db", 1, "orders", "verify-full")} {
		l := postgres.Login{`Robert"; DROP@:/`, "p@ss:w/o?r d%+#&é'"}
		u, err := url.Parse(wayTo(e).ConnectionString(l))
		expect.OK(t, err)
		password, _ := u.User.Password()
		got := at(u.Hostname(), e.Addresses[0].Port, strings.TrimPrefix(u.Path, "/"), u.Query().Get("sslmode"))
		if (postgres.Login{u.User.Username(), password}) != l || !reflect.DeepEqual(got, e) || !strings.HasSuffix(u.Host, ":"+u.Port()) {
			t.Errorf("%+v came back as %+v", e, got)
		}
	}
}

func wayTo(e postgres.Endpoint) postgres.Way {
	return postgres.Way{Database: e.Database, SSLMode: e.SSLMode}.To(e.Addresses)
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{aURL, "postgres://db", "postgresql://u:p@h:1/d", "postgresql://[::1%25eth0]:5/x?sslmode=a", "postgres://h:1,h:2/d?a=b#c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c := postgres.Config{ConnectionURL: raw}
		e, err := c.Endpoint()
		if err != nil {
			if rest := strings.TrimPrefix(raw, "postgresql://"); len(rest) > 40 && strings.Contains(err.Error(), rest) {
				t.Errorf("the error quotes the URL: %v", err)
			}
			return
		}
		// What applications are told leads to the same hosts.
		parsed := postgres.Config{ConnectionURL: strings.Replace(wayTo(e).ConnectionString(postgres.Login{"u", "p"}), "u:p@", "", 1)}
		if again, err := parsed.Endpoint(); err != nil || again.String() != e.String() || again.Database != e.Database {
			t.Errorf("%+v makes %+v (%v)", e, again, err)
		}
	})
}
