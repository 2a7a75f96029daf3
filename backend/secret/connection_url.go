package secret

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// userTemplate is the only user information that a connection URL may have. The
// user name and the password are fields of their own, so that a URL can be read
// back, logged and kept in Terraform.
const userTemplate = "{{username}}:{{password}}"

var queryParameter = regexp.MustCompile(`^[a-z_]{1,32}$`)

// parseURL reads a connection URL. Its errors never quote the URL, because a
// password written into it, in whatever malformed way, would be quoted too.
func parseURL(raw string) (Endpoint, error) {
	if err := checkPrintable("connection_url", raw, 4096); err != nil {
		return Endpoint{}, err
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || (scheme != "postgresql" && scheme != "postgres") {
		return Endpoint{}, invalid("connection_url", "does not begin with postgresql://; write postgresql://%s@host:5432/database", userTemplate)
	}
	rest = strings.TrimPrefix(rest, userTemplate+"@")
	if strings.ContainsAny(rest, "@{}") {
		return Endpoint{}, invalid("connection_url", "contains a user name or a password: write %s there, and give them in the fields username and password", userTemplate)
	}
	u, err := url.Parse("postgresql://" + rest)
	if err != nil || u.Fragment != "" || strings.Contains(u.Host, ",") {
		return Endpoint{}, urlProblem(rest)
	}
	e := Endpoint{Host: u.Hostname(), Database: strings.TrimPrefix(u.Path, "/")}
	if p := u.Port(); p != "" {
		if e.Port, err = strconv.Atoi(p); err != nil || e.Port == 0 {
			return Endpoint{}, invalid("connection_url", "has a port that is not within 1 and 65535")
		}
	}
	e.SSLMode, err = parseQuery(u.RawQuery)
	return e, err
}

// urlProblem says what a URL has too much or too little of, without quoting it.
func urlProblem(rest string) error {
	authority, _, _ := strings.Cut(rest, "/")
	if strings.Contains(authority, ",") {
		return invalid("connection_url", "names several hosts: a password is rotated on one, name the primary or an address that follows it")
	}
	return invalid("connection_url", "is malformed; write postgresql://%s@host:5432/database?sslmode=verify-full, with special characters of the database name percent-encoded", userTemplate)
}

// parseQuery returns sslmode, the only query parameter there is: an unknown one
// would not be in force, so it is an error.
func parseQuery(raw string) (sslmode string, err error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return "", invalid("connection_url", "has a malformed query: write ?sslmode=verify-full")
	}
	for key, values := range query {
		switch {
		case key == "sslmode" && len(values) == 1 && values[0] != "":
			sslmode = values[0]
		case key == "sslmode":
			return "", invalid("connection_url", "must give sslmode one value, once")
		case key == "connect_timeout":
			return "", invalid("connection_url", "has connect_timeout: give it in the field connect_timeout")
		case strings.HasPrefix(key, "ssl"):
			return "", invalid("connection_url", "has a TLS parameter other than sslmode: give PEM text in the fields tls_ca, tls_certificate and tls_key")
		case queryParameter.MatchString(key):
			return "", invalid("connection_url", "has the query parameter %q: only sslmode is known", key)
		default:
			return "", invalid("connection_url", "has an unknown query parameter: only sslmode is known")
		}
	}
	return sslmode, nil
}

// encode is url.QueryEscape with %20 for the space, which is a plus only in
// queries.
func encode(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
