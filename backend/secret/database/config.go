package database

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Config configures a PostgreSQL login that an application uses.
type Config struct {
	// Connection is the name of the connection to administer it through.
	Connection string `json:"connection"`
	// RotationStrategy is SingleUser or AlternatingUsers; empty means the one that
	// fits the number of Usernames.
	RotationStrategy string `json:"rotation_strategy,omitempty"`
	// Usernames is one user for SingleUser and two for AlternatingUsers. All exist
	// in PostgreSQL already.
	Usernames []string `json:"usernames"`
	// VerificationStatements are run, each by itself, in one transaction as the
	// application's user with the new password, before anybody else gets it. The
	// transaction is rolled back. An error in any of them fails the rotation.
	VerificationStatements []string `json:"verification_statements,omitempty"`
	// RotationStatements set the password in place of ALTER ROLE, for example by
	// a SECURITY DEFINER function. They run with the engine's own settings, so that
	// names in them need their schema. See parseStatement for the placeholders.
	RotationStatements []string `json:"rotation_statements,omitempty"`
	// PasswordPolicy is the name of a Vault password policy; empty means 32
	// random bytes in base64.
	PasswordPolicy string `json:"password_policy,omitempty"`
	// OnOverlapEnd is what is done about the sessions of the previous login when the
	// overlap ends: one of rotation.OverlapEnd; empty means to retire.
	OnOverlapEnd string `json:"on_overlap_end,omitempty"`
	// DrainTimeout is for how many seconds sessions are waited for at most; zero
	// means an hour. It goes with OnOverlapEnd wait only.
	DrainTimeout int `json:"drain_timeout,omitempty"`
}

// The rotation strategies, by the names that AWS Secrets Manager gave them.
const (
	// SingleUser changes the password of the one user there is. Logins with the
	// old password fail from that moment on.
	SingleUser = "single_user"
	// AlternatingUsers gives the idle one of two users a new password and makes
	// it current; the other stays valid for the overlap. No login ever fails.
	AlternatingUsers = "alternating_users"
)

const (
	maxStatements     = 32
	maxStatementBytes = 16 << 10
)

// ConfigOf reads the configuration of a database secret.
func ConfigOf(s *rotation.Secret) (config Config, err error) {
	if err := json.Unmarshal(s.Config, &config); err != nil {
		return config, fmt.Errorf("decode secret %s: %w", s.Name, err)
	}
	return config, nil
}

// settings is a checked Config.
type settings struct {
	Config
	rotation []statement
}

func readConfig(config json.RawMessage) (settings, error) {
	decoded, err := input.Decode[Config](config)
	c := settings{Config: decoded}
	if err != nil {
		return c, err
	}
	if err := input.CheckPrintable("connection", c.Connection, 512); err != nil {
		return c, err
	}
	if c.PasswordPolicy != "" {
		if err := input.CheckPrintable("password_policy", c.PasswordPolicy, 512); err != nil {
			return c, err
		}
	}
	if err := c.checkUsers(); err != nil {
		return c, err
	}
	if err := c.checkDrain(); err != nil {
		return c, err
	}
	if err := c.checkVerification(); err != nil {
		return c, err
	}
	return c, c.parseRotation()
}

// checkUsers also fills in the strategy.
func (c *settings) checkUsers() error {
	if c.RotationStrategy == "" {
		c.RotationStrategy = SingleUser
		if len(c.Usernames) == 2 {
			c.RotationStrategy = AlternatingUsers
		}
	}
	for i, username := range c.Usernames {
		if err := postgres.CheckName("usernames", username); err != nil {
			return err
		}
		if slices.Contains(c.Usernames[:i], username) {
			return rotation.Invalid("usernames", "names %q twice", username)
		}
	}
	switch {
	case c.RotationStrategy != SingleUser && c.RotationStrategy != AlternatingUsers:
		return rotation.Invalid("rotation_strategy", "%q is not known: use %s or %s", c.RotationStrategy, SingleUser, AlternatingUsers)
	case len(c.Usernames) == 0:
		return rotation.Invalid("usernames", "is empty: name one user for %s, two for %s", SingleUser, AlternatingUsers)
	case c.RotationStrategy == SingleUser && len(c.Usernames) != 1:
		return rotation.Invalid("usernames", "names %d users, and rotation_strategy=%s takes one: name one, or set rotation_strategy=%s for two", len(c.Usernames), SingleUser, AlternatingUsers)
	case c.RotationStrategy == AlternatingUsers && len(c.Usernames) != 2:
		return rotation.Invalid("usernames", "names %d users, and rotation_strategy=%s takes two: name two, or set rotation_strategy=%s for one", len(c.Usernames), AlternatingUsers, SingleUser)
	}
	return nil
}

func (c *settings) checkVerification() error {
	if err := checkStatements("verification_statements", c.VerificationStatements); err != nil {
		return err
	}
	for i, sql := range c.VerificationStatements {
		if keyword := firstKeyword(sql); controls[keyword] {
			return rotation.Invalid("verification_statements", "number %d begins with %s: leave it out, because the engine runs the statements in a transaction that it rolls back", i+1, keyword)
		}
	}
	return nil
}

func (c *settings) parseRotation() error {
	const field = "rotation_statements"
	if err := checkStatements(field, c.RotationStatements); err != nil {
		return err
	}
	sets := len(c.RotationStatements) == 0
	for i, sql := range c.RotationStatements {
		parsed, err := parseStatement(sql)
		if err != nil {
			return rotation.Invalid(field, "number %d %v", i+1, err)
		}
		sets = sets || parsed.sets()
		c.rotation = append(c.rotation, parsed)
	}
	if !sets {
		return rotation.Invalid(field, "never use {{password}}, so they would set no password")
	}
	return nil
}

func checkStatements(field string, statements []string) error {
	if len(statements) > maxStatements {
		return rotation.Invalid(field, "has %d statements; the limit is %d", len(statements), maxStatements)
	}
	for _, sql := range statements {
		if err := input.CheckText(field, strings.TrimSpace(sql), maxStatementBytes); err != nil {
			return err
		}
	}
	return nil
}

// manages reports whether username is one of the secret's users.
func (c settings) manages(username string) bool {
	return slices.Contains(c.Usernames, username)
}

// Schema implements secret.Type.
func (d *driver) Schema() secret.Schema {
	return secret.Schema{
		Settings: []secret.Field{
			{Name: "connection", Help: "name of the connection to the server of the users."},
			{Name: "rotation_strategy", Help: "single_user, the default: the engine changes the password of one user. alternating_users: there are two users; the engine changes the password of the one that is not in use, and then switches to it, so no login fails during a rotation."},
			{Name: "usernames", Kind: secret.Names, Help: "the database user, or the two alternating users. They must exist."},
			{Name: "verification_statements", Kind: secret.Texts, Help: "SQL that the engine runs as the new user before it commits the rotation, in a transaction that it rolls back. If it fails, the rotation fails."},
			{Name: "rotation_statements", Kind: secret.Texts, Help: "SQL that sets the password, instead of ALTER ROLE, with the placeholders {{username}} and {{password}}. It runs with search_path = pg_catalog, pg_temp, so schema-qualify the names of your own objects."},
			{Name: "password_policy", Help: secret.PasswordPolicyHelp},
			{Name: "on_overlap_end", Values: []string{"retire", "wait", "terminate"}, Help: "what happens, when the overlap ends, to the open sessions that logged in with the previous password. retire, the default: the sessions stay open, and the history records their number. wait: the overlap goes on until no such session is open, but at most drain_timeout longer than planned and not beyond the next automatic rotation. terminate: the engine retires the login, then ends the sessions; it also does so if a request has revoke_previous. With single_user, both passwords belong to the same user, so the engine counts every session from before the rotation as one with the previous password."},
			{Name: "drain_timeout", Kind: secret.Seconds, Help: "with on_overlap_end=wait: how much longer than planned the overlap may last; 1 h by default, at most 24 h."},
		},
		Imports: []secret.Field{{Name: "password", Kind: secret.Hidden, Help: "password of the first user in usernames, to import."}},
		Answers: []secret.Answer{
			{Name: "username", Help: "database user to log in as."},
			{Name: "password", Help: "password of username."},
			{Name: "host", Help: "name or address of the server; several, separated by commas, if the connection has several."},
			{Name: "port", Help: "port of the server; several, separated by commas, if the ports of several hosts differ."},
			{Name: "database", Help: "database to log in to."},
			{Name: "sslmode", Help: "disable, require, verify-ca or verify-full, as in libpq."},
			{Name: "ssl_root_certificate", Help: "CA certificates (PEM) that must have issued the server's certificate; empty for those of the operating system."},
			{Name: "target_session_attrs", Help: "only with several hosts: which of them to use, as in libpq."},
			{Name: "connection_string", Help: "connection URL for libpq and most drivers. It contains all other fields except ssl_root_certificate."},
		},
	}
}

// Normalize implements secret.Type.
func (d *driver) Normalize(config json.RawMessage) (json.RawMessage, error) {
	return secret.Rewrite(config, func(c *Config) { c.RotationStrategy = cmp.Or(c.RotationStrategy, SingleUser) })
}

// ImportField implements secret.Type.
func (d *driver) ImportField(json.RawMessage, func(string) bool) (string, error) {
	return "password", nil
}

// Validate implements secret.Type. It reaches for no server: Preflight does.
func (d *driver) Validate(config json.RawMessage) error {
	_, err := readConfig(config)
	return err
}

// ValidateUpdate refuses to change who is managed where, because the values that
// exist belong to those users, and the ones left behind would keep working. The order of
// two users means nothing: which of them is in use stands in the value.
func (d *driver) ValidateUpdate(old, updated json.RawMessage) error {
	before, err := readConfig(old)
	if err != nil {
		return err
	}
	after, err := readConfig(updated)
	if err != nil {
		return err
	}
	const fix = "cannot be changed: delete the secret and create it again, or create another one"
	switch {
	case before.Connection != after.Connection:
		return rotation.Invalid("connection", fix)
	case before.RotationStrategy != after.RotationStrategy:
		return rotation.Invalid("rotation_strategy", fix)
	case !sameUsers(before.Usernames, after.Usernames):
		return rotation.Invalid("usernames", fix)
	}
	return nil
}

func sameUsers(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
