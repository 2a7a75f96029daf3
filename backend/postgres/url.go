package postgres

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// userTemplate is the only user information that a connection URL may have. The
// user name and the password are fields of their own, so that a URL can be read
// back, logged and kept in Terraform.
const userTemplate = "{{username}}:{{password}}"

var queryParameter = regexp.MustCompile(`^[a-z_]{1,32}$`)

// parseURL reads a connection URL. Its errors never quote the URL, because a
// password written into it, in whatever malformed way, would be quoted too.
func parseURL(raw string) (place, error) {
	if err := input.CheckPrintable("connection_url", raw, 4096); err != nil {
		return place{}, err
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || (scheme != "postgresql" && scheme != "postgres") {
		return place{}, rotation.Invalid("connection_url", "does not begin with postgresql://; write postgresql://%s@host:5432/database", userTemplate)
	}
	rest = strings.TrimPrefix(rest, userTemplate+"@")
	if strings.ContainsAny(rest, "@{}") {
		return place{}, rotation.Invalid("connection_url", "contains a user name or a password: write %s there, and give them in the fields username and password", userTemplate)
	}
	hosts, _, _ := strings.Cut(rest, "/")
	several := strings.Contains(hosts, ",")
	if several { // which net/url does not know
		rest = "several" + rest[len(hosts):]
	}
	u, err := url.Parse("postgresql://" + rest)
	if err != nil || u.Fragment != "" {
		return place{}, rotation.Invalid("connection_url", "is malformed; write postgresql://%s@host:5432/database?sslmode=verify-full, with special characters of the database name percent-encoded", userTemplate)
	}
	p := place{Host: hosts, Database: strings.TrimPrefix(u.Path, "/")}
	if !several {
		p.Host = u.Hostname()
	}
	if port := u.Port(); port != "" {
		if p.Port, err = strconv.Atoi(port); err != nil || p.Port == 0 {
			return place{}, rotation.Invalid("connection_url", "has a port that is not within 1 and 65535")
		}
	}
	return p, p.parseQuery(u.RawQuery)
}

// parseQuery takes over sslmode and target_session_attrs, the only query parameters
// there are: an unknown one would not be in force, so it is an error.
func (p *place) parseQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return rotation.Invalid("connection_url", "has a malformed query: write ?sslmode=verify-full")
	}
	for key, values := range query {
		known := map[string]*string{"sslmode": &p.SSLMode, "target_session_attrs": &p.TargetSessionAttrs}[key]
		switch {
		case known != nil && len(values) == 1 && values[0] != "":
			*known = values[0]
		case known != nil:
			return rotation.Invalid("connection_url", "must give %s one value, once", key)
		case key == "connect_timeout":
			return rotation.Invalid("connection_url", "has connect_timeout: give it in the field connect_timeout")
		case strings.HasPrefix(key, "ssl"):
			return rotation.Invalid("connection_url", "has a TLS parameter other than sslmode: give PEM text in the fields tls_ca, tls_certificate and tls_key")
		case queryParameter.MatchString(key):
			return rotation.Invalid("connection_url", "has the query parameter %q: only sslmode and target_session_attrs are known", key)
		default:
			return rotation.Invalid("connection_url", "has an unknown query parameter: only sslmode and target_session_attrs are known")
		}
	}
	return nil
}

// encode is url.QueryEscape with %20 for the space, which is a plus only in
// queries.
func encode(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
