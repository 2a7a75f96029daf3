package secret

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

const aURL = "postgresql://{{username}}:{{password}}@db.example.com:6432/orders?sslmode=verify-ca"

func TestEndpoint(t *testing.T) {
	for name, test := range map[string]struct {
		config ConnectionConfig
		want   Endpoint
	}{
		"URL":             {ConnectionConfig{ConnectionURL: aURL}, Endpoint{"db.example.com", 6432, "orders", "verify-ca"}},
		"short URL":       {ConnectionConfig{ConnectionURL: "postgres://db/orders"}, Endpoint{"db", 5432, "orders", "verify-full"}},
		"IPv6 URL":        {ConnectionConfig{ConnectionURL: "postgres://[::1]:1/a%2Fb%20c"}, Endpoint{"::1", 1, "a/b c", "verify-full"}},
		"parts":           {ConnectionConfig{Host: "db_1", Database: "orders"}, Endpoint{"db_1", 5432, "orders", "verify-full"}},
		"IPv6 parts":      {ConnectionConfig{Host: "[2001:db8::1]", Port: 6432, Database: "ö", SSLMode: "require"}, Endpoint{"2001:db8::1", 6432, "ö", "require"}},
		"IPv4 without []": {ConnectionConfig{Host: "127.0.0.1", Port: 65535, Database: "o", SSLMode: "disable"}, Endpoint{"127.0.0.1", 65535, "o", "disable"}},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, test.config.Validate())
			got, err := test.config.Endpoint()
			if err != nil || got != test.want {
				t.Errorf("got %+v (%v), want %+v", got, err, test.want)
			}
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	ok := ConnectionConfig{Host: "db", Database: "orders", SSLMode: "disable"}
	with := func(change func(c *ConnectionConfig)) ConnectionConfig {
		c := ok
		change(&c)
		return c
	}
	fromURL := func(u string) ConnectionConfig { return ConnectionConfig{ConnectionURL: u} }
	for name, test := range map[string]struct {
		config ConnectionConfig
		words  []string
	}{
		"nothing":             {ConnectionConfig{}, []string{"host"}},
		"both":                {with(func(c *ConnectionConfig) { c.ConnectionURL = aURL }), []string{"connection_url", "excludes"}},
		"sslmode twice":       {ConnectionConfig{ConnectionURL: aURL, SSLMode: "require"}, []string{"connection_url", "excludes"}},
		"no database":         {ConnectionConfig{Host: "db"}, []string{"database"}},
		"long database":       {with(func(c *ConnectionConfig) { c.Database = strings.Repeat("x", 64) }), []string{"database", "63"}},
		"port":                {with(func(c *ConnectionConfig) { c.Port = 65536 }), []string{"port", "65535"}},
		"negative port":       {with(func(c *ConnectionConfig) { c.Port = -1 }), []string{"port", "65535"}},
		"several hosts":       {with(func(c *ConnectionConfig) { c.Host = "a,b" }), []string{"host", "several"}},
		"socket":              {with(func(c *ConnectionConfig) { c.Host = "/run/postgresql" }), []string{"host"}},
		"host with password":  {with(func(c *ConnectionConfig) { c.Host = "u:hunter2@db" }), []string{"host"}},
		"prefer":              {with(func(c *ConnectionConfig) { c.SSLMode = "prefer" }), []string{"sslmode", "verify-full"}},
		"allow":               {with(func(c *ConnectionConfig) { c.SSLMode = "allow" }), []string{"sslmode", "verify-full"}},
		"unknown sslmode":     {with(func(c *ConnectionConfig) { c.SSLMode = "on" }), []string{"sslmode", "disable"}},
		"connections":         {with(func(c *ConnectionConfig) { c.MaxOpenConnections = 65 }), []string{"max_open_connections", "64"}},
		"timeout":             {with(func(c *ConnectionConfig) { c.ConnectTimeout = time.Minute + 1 }), []string{"connect_timeout", "60s"}},
		"short timeout":       {with(func(c *ConnectionConfig) { c.ConnectTimeout = time.Millisecond }), []string{"connect_timeout", "1s"}},
		"authentication":      {with(func(c *ConnectionConfig) { c.PasswordAuthentication = "md5" }), []string{"password_authentication", "scram-sha-256"}},
		"TLS without TLS":     {with(func(c *ConnectionConfig) { c.TLSCA = shared.CAPEM }), []string{"sslmode", "verify-full"}},
		"CA":                  {with(func(c *ConnectionConfig) { c.SSLMode, c.TLSCA = "", "junk" }), []string{"tls_ca", "PEM"}},
		"CA with junk behind": {with(func(c *ConnectionConfig) { c.SSLMode, c.TLSCA = "", shared.CAPEM+"junk" }), []string{"tls_ca", "PEM"}},
		"broken CA": {with(func(c *ConnectionConfig) {
			c.SSLMode, c.TLSCA = "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
		}), []string{"tls_ca"}},
		"certificate alone":   {with(func(c *ConnectionConfig) { c.SSLMode, c.TLSCertificate = "", shared.CAPEM }), []string{"tls_certificate", "tls_key", "both"}},
		"no key":              {with(func(c *ConnectionConfig) { c.SSLMode, c.TLSCertificate, c.TLSKey = "", shared.CAPEM, shared.CAPEM }), []string{"tls_key"}},
		"server name":         {with(func(c *ConnectionConfig) { c.SSLMode, c.TLSServerName = "", "a b" }), []string{"tls_server_name"}},
		"URL scheme":          {fromURL("mysql://db/orders"), []string{"connection_url", "postgresql://"}},
		"URL not a URL":       {fromURL("host=db password=hunter2"), []string{"connection_url", "postgresql://"}},
		"URL with password":   {fromURL("postgresql://{{username}}:hunter2@db/orders"), []string{"connection_url", "{{password}}"}},
		"URL with user":       {fromURL("postgresql://app:{{password}}@db/orders"), []string{"connection_url", "{{username}}"}},
		"URL with both":       {fromURL("postgresql://app:hunter2@db/orders"), []string{"connection_url", "{{password}}"}},
		"URL, broken":         {fromURL("postgresql://app:hun/ter2@db/orders"), []string{"connection_url", "{{password}}"}},
		"URL, no at":          {fromURL("postgresql://app:hunter2/orders"), []string{"connection_url"}},
		"URL, hosts":          {fromURL("postgresql://{{username}}:{{password}}@a:1,b:2/orders"), []string{"connection_url", "several"}},
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
			wantInvalid(t, err, test.words...)
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "hun/") {
				t.Errorf("%q quotes the URL", err)
			}
		})
	}
}

func TestConnectionPrintsNothing(t *testing.T) {
	c := ConnectionConfig{Host: "db", TLSKey: "hunter2"}
	for _, text := range []string{c.String(), c.GoString(), Login{"app", "hunter2"}.String(), Login{"app", "hunter2"}.GoString()} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s shows a secret", text)
		}
	}
}

func TestConnectionString(t *testing.T) {
	for _, e := range []Endpoint{{"::1", 5432, "a/b?c#d %", "disable"}, {"db", 1, "orders", "verify-full"}} {
		l := Login{`Robert"; DROP@:/`, "p@ss:w/o?r d%+#&é'"}
		u, err := url.Parse(wayTo(e).connectionString(l))
		must(t, err)
		password, _ := u.User.Password()
		got := Endpoint{u.Hostname(), e.Port, strings.TrimPrefix(u.Path, "/"), u.Query().Get("sslmode")}
		if (Login{u.User.Username(), password}) != l || got != e || !strings.HasSuffix(u.Host, ":"+u.Port()) {
			t.Errorf("%+v came back as %+v", e, got)
		}
	}
}

func wayTo(e Endpoint) Way {
	return Way{Host: e.Host, Port: e.Port, Database: e.Database, SSLMode: e.SSLMode}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{aURL, "postgres://db", "postgresql://u:p@h:1/d", "postgresql://[::1%25eth0]:5/x?sslmode=a", "postgres://h:1,h:2/d?a=b#c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c := ConnectionConfig{ConnectionURL: raw}
		e, err := c.Endpoint()
		if err != nil {
			if rest := strings.TrimPrefix(raw, "postgresql://"); len(rest) > 40 && strings.Contains(err.Error(), rest) {
				t.Errorf("the error quotes the URL: %v", err)
			}
			return
		}
		parsed, err := url.Parse(wayTo(e).connectionString(Login{"u", "p"}))
		if err != nil || parsed.Hostname() != e.Host || parsed.Path != "/"+e.Database {
			t.Errorf("%+v makes %v (%v)", e, parsed, err)
		}
		parts := ConnectionConfig{Host: e.Host, Port: e.Port, Database: e.Database, SSLMode: e.SSLMode}
		if again, err := parts.Endpoint(); err != nil || again != e {
			t.Errorf("%+v as parts is %+v (%v)", e, again, err)
		}
	})
}
