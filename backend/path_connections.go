package backend

import (
	"cmp"
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathConnections() *framework.Path {
	return &framework.Path{
		Pattern:        "connections/" + framework.GenericNameRegex("name"),
		DisplayAttrs:   attributes("", "connection"),
		Fields:         connectionFields(),
		ExistenceCheck: b.pathConnectionExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: mutation(b.pathConnectionWrite, "Create or change a connection, which says how to reach a PostgreSQL server.", nil),
			logical.UpdateOperation: mutation(b.pathConnectionWrite, "Create or change a connection, which says how to reach a PostgreSQL server.", nil),
			logical.ReadOperation:   operation(b.pathConnectionRead, "Read a connection, without its secrets.", connectionAnswer()),
			logical.DeleteOperation: b.deletion(b.pathConnectionExists, b.pathConnectionDelete, "Delete a connection that no secret uses."),
		},
		HelpSynopsis:    "Manage the connections, which say how the engine reaches each PostgreSQL server.",
		HelpDescription: oneLine(connectionHelp),
	}
}

func connectionFields() map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{
		"name":                    nameField("Name of the connection."),
		"connection_url":          field(framework.TypeString, "Address of the server, as postgresql://{{username}}:{{password}}@host:port/database?sslmode=verify-full. It may name several hosts, as host:port,host:port. Instead of this field, you can give host, port, database and sslmode."),
		"host":                    field(framework.TypeString, "Name or address of the server; or several, separated by commas, each with :port if that differs from the field port. Of several servers, the engine uses the primary."),
		"port":                    field(framework.TypeInt, "Port of the server; 5432 by default."),
		"target_session_attrs":    field(framework.TypeString, "With several hosts: which one the engine and applications use, as in libpq: read-write, the default, or primary."),
		"database":                field(framework.TypeString, "Database to log in to. creds returns the same one to applications."),
		"sslmode":                 field(framework.TypeString, "How to use TLS, as in libpq: disable, require, verify-ca or verify-full, the default."),
		"username":                field(framework.TypeString, "The administrator: the database user as which the engine logs in. It does not have to be a superuser; docs/postgresql.md lists the grants it needs."),
		"password":                sensitive("Password of the administrator. Rotate it with rotate-root as soon as the connection works."),
		"verify_connection":       {Type: framework.TypeBool, Default: true, Description: "Whether the engine logs in before it stores the connection."},
		"tls_ca":                  field(framework.TypeString, "CA certificates (PEM) that must have issued the server's certificate; those of the operating system if left out."),
		"tls_certificate":         field(framework.TypeString, "Client certificate (PEM)."),
		"tls_key":                 sensitive("Private key (PEM) of the client certificate."),
		"tls_server_name":         field(framework.TypeString, "Name in the server's certificate, if it differs from host."),
		"max_open_connections":    field(framework.TypeInt, "How many sessions of the administrator the engine keeps open at most; 4 by default."),
		"connect_timeout":         field(framework.TypeDurationSecond, "How long the engine tries to reach the server and log in; 5 s by default, at most 60 s. A longer timeout can delay a seal or step-down of Vault, because Vault first waits for requests that wait for the server."),
		"password_authentication": field(framework.TypeString, "How the engine sends new passwords to the server. scram-sha-256, the default: as a SCRAM verifier, never in clear text. password: in clear text, for servers without SCRAM."),
		"prove_refusals":          {Type: framework.TypeBool, Default: true, Description: "Whether the engine also logs in with values that the server must refuse, such as a retired password, to prove that the server refuses them. It does this at most four times an hour for each user."},
		"channel_binding":         field(framework.TypeString, "prefer, the default: over TLS, each SCRAM login proves that nothing between the engine and the server terminates TLS. disable: no such proof. Set disable only if your own proxy terminates TLS between the engine and the server. An attacker who has a certificate that tls_ca accepts could then do the same, and take over the engine's sessions. With disable, connection_string contains channel_binding=disable for applications that use the same host and port."),

		"allowed_roles":             field(framework.TypeCommaStringSlice, "Names of the roles whose secrets may use the connection; none by default. * in a name stands for any text, and * alone for all roles."),
		"allowed_usernames":         field(framework.TypeCommaStringSlice, "Database users that secrets may manage, with * for any text; by default all but the administrator."),
		"allow_rotation_statements": field(framework.TypeBool, "Whether secrets may have rotation_statements; false by default. The engine runs them as the administrator."),

		"take_over": field(framework.TypeCommaStringSlice, "Database users to take over from another mount, of this Vault or another one. In PostgreSQL, the comment on a user names the mount that manages the user. take_over writes this mount into the comment; the other mount can then no longer change the user. The engine does not store this field."),

		"application_host":       field(framework.TypeString, "Name or address by which applications reach the server, if it differs from host. You can give several, separated by commas, as in host."),
		"application_port":       field(framework.TypeInt, "Port by which applications reach the server, such as that of a pooler, if it differs from port."),
		"application_parameters": field(framework.TypeKVPairs, "libpq parameters that the engine adds to connection_string, such as connect_timeout=5. An sslmode given here applies to applications only."),
	}
	for name, f := range scheduleFields() {
		fields[name] = f
	}
	fields["rotation_period"].Description += " With 0, only rotate-root rotates the password."
	return fields
}

func sensitive(description string) *framework.FieldSchema {
	return &framework.FieldSchema{
		Type: framework.TypeString, Description: description,
		DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
	}
}

// connectionAnswer is what reading a connection shows: all but the secrets.
func connectionAnswer() map[string]*framework.FieldSchema {
	fields := connectionFields()
	for _, name := range []string{"name", "password", "tls_key", "verify_connection", "take_over"} {
		delete(fields, name)
	}
	fields["tls_key_set"] = field(framework.TypeBool, "Whether the connection has a tls_key.")
	for name, f := range rotationStatusFields() {
		fields[name] = f
	}
	return fields
}

func (b *backend) pathConnectionExists(ctx context.Context, _ *logical.Request, d *framework.FieldData) (bool, error) {
	r, err := b.registry.Get(ctx, roles.ConnectionPrefix, d.Get("name").(string))
	return r != nil && !r.Snapshot().Deleted, err
}

// pathConnectionWrite corresponds to CREATE and UPDATE on connections/:name.
func (b *backend) pathConnectionWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if err := cmp.Or(checkAllowedRoles(d), b.checkNew(ctx, roles.ConnectionPrefix, "name", d)); err != nil {
		return nil, err
	}
	warnings, err := b.connections.Write(ctx, d.Get("name").(string), connections.Write{
		Settings: func(c *postgres.Settings) {
			takeConnection(d, &c.Config)
			takeAccess(d, &c.Access)
			takeApplication(d, &c.Application)
		},
		Policy:   func(p *rotation.Policy) error { return takeAdminPolicy(d, p) },
		Username: given(d, "username"), Password: given(d, "password"),
		Unverified: !d.Get("verify_connection").(bool), TakeOver: d.Get("take_over").([]string),
		Record: func() *rotation.Record {
			return b.newRecord(req, rotation.KindImport, connections.Admin, connections.Type)
		},
	})
	if err != nil || len(warnings) == 0 {
		return nil, err
	}
	return &logical.Response{Warnings: warnings}, nil
}

// takeAdminPolicy takes over the fields that say when the administrator's password
// rotates by itself.
func takeAdminPolicy(d *framework.FieldData, p *rotation.Policy) error {
	if v, ok := d.GetOk("rotation_period"); ok && v == 0 {
		*p = rotation.Policy{}
		return nil
	}
	return takeSchedule(d, p)
}

// takeAccess takes over the fields that say for whom the connection is.
func takeAccess(d *framework.FieldData, a *postgres.Access) {
	takeStrings(d, "allowed_roles", &a.AllowedRoles)
	takeStrings(d, "allowed_usernames", &a.AllowedUsernames)
	takeBool(d, "allow_rotation_statements", &a.AllowRotationStatements)
}

// takeApplication takes over the fields that say how applications reach the server.
func takeApplication(d *framework.FieldData, a *postgres.Application) {
	takeString(d, "application_host", &a.ApplicationHost)
	takeNumber(d, "application_port", &a.ApplicationPort)
	if v, ok := d.GetOk("application_parameters"); ok {
		a.ApplicationParameters = v.(map[string]string)
	}
}

// takeConnection takes over the fields that say how to reach the server. Naming
// a URL replaces the parts, and naming a part replaces the URL.
func takeConnection(d *framework.FieldData, c *postgres.Config) {
	_, byURL := d.GetOk("connection_url")
	byParts := false
	for name, target := range map[string]*string{"host": &c.Host, "database": &c.Database, "sslmode": &c.SSLMode, "target_session_attrs": &c.TargetSessionAttrs} {
		if v, ok := d.GetOk(name); ok {
			*target, byParts = v.(string), true
		} else if byURL {
			*target = ""
		}
	}
	if v, ok := d.GetOk("port"); ok {
		c.Port, byParts = v.(int), true
	} else if byURL {
		c.Port = 0
	}
	if byParts && !byURL {
		c.ConnectionURL = ""
	}
	for name, target := range map[string]*string{
		"connection_url": &c.ConnectionURL, "tls_ca": &c.TLSCA, "tls_certificate": &c.TLSCertificate, "tls_key": &c.TLSKey,
		"tls_server_name": &c.TLSServerName, "password_authentication": &c.PasswordAuthentication,
		"channel_binding": &c.ChannelBinding,
	} {
		takeString(d, name, target)
	}
	takeNumber(d, "max_open_connections", &c.MaxOpenConnections)
	if v, ok := d.GetOk("prove_refusals"); ok {
		c.LeaveUnproven = !v.(bool)
	}
	if v, ok := d.GetOk("connect_timeout"); ok {
		c.ConnectTimeout = time.Duration(v.(int)) * time.Second
	}
}

// pathConnectionRead corresponds to READ on connections/:name.
func (b *backend) pathConnectionRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.registry.Get(ctx, roles.ConnectionPrefix, d.Get("name").(string))
	if err != nil || r == nil || r.Snapshot().Deleted {
		return nil, err
	}
	s := r.Snapshot()
	admin := s.Secrets[connections.Admin]
	config, err := postgres.SettingsOf(admin)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: connectionData(s, config, b.rotationStatus(r))}, nil
}

func connectionData(s *rotation.Snapshot, settings postgres.Settings, status map[string]any) map[string]any {
	c := settings.WithDefaults()
	data := map[string]any{
		"username": s.Secrets[connections.Admin].Current.Material["username"], "tls_ca": c.TLSCA, "tls_certificate": c.TLSCertificate,
		"tls_key_set": c.TLSKey != "", "tls_server_name": c.TLSServerName, "max_open_connections": c.MaxOpenConnections,
		"connect_timeout": rotation.Seconds(c.ConnectTimeout), "password_authentication": c.PasswordAuthentication, "prove_refusals": !c.LeaveUnproven, "channel_binding": c.ChannelBinding,
		"allowed_roles": settings.AllowedRoles, "allowed_usernames": settings.AllowedUsernames, "allow_rotation_statements": settings.AllowRotationStatements,
		"application_host": settings.ApplicationHost, "application_port": settings.ApplicationPort, "application_parameters": settings.ApplicationParameters,
	}
	if c.ConnectionURL != "" {
		data["connection_url"] = c.ConnectionURL
	} else {
		data["host"], data["port"], data["database"], data["sslmode"], data["target_session_attrs"] = c.Host, c.Port, c.Database, c.SSLMode, c.TargetSessionAttrs
	}
	for name, value := range status {
		data[name] = value
	}
	if s.Policy.AutoRotate {
		for name, value := range scheduleData(s.Policy, s.Resolved) {
			data[name] = value
		}
	}
	return data
}

// pathConnectionDelete corresponds to DELETE on connections/:name.
func (b *backend) pathConnectionDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return nil, b.connections.Delete(ctx, d.Get("name").(string), func() *rotation.Record {
		return b.newRecord(req, rotation.KindDelete, connections.Admin, connections.Type)
	})
}

func (b *backend) pathConnectionList() *framework.Path {
	return &framework.Path{
		Pattern:      "connections/?$",
		DisplayAttrs: attributes("list", "connections"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathConnectionListRead, "List the connections.", listFields()),
		},
		HelpSynopsis:    "List the connections.",
		HelpDescription: "Lists the names of the connections, each with the state of its password's rotation.",
	}
}

// pathConnectionListRead corresponds to LIST on connections.
func (b *backend) pathConnectionListRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	return b.listSubjects(ctx, roles.ConnectionPrefix)
}

const connectionHelp = `
A connection says how the engine reaches a PostgreSQL server, and as which user it logs
in there: the administrator, who must be allowed to change the passwords of the users
that secrets manage. Give either connection_url, with the placeholders {{username}} and
{{password}}, or host, port, database and sslmode. The engine logs in before it stores
anything. It never shows the password. Rotate the password with rotate-root/<name>, or
set rotation_period or rotation_schedule. allowed_roles names the roles that may use the
connection; none may by default. If you change the address, the engine first logs in at
the new address with the logins of each role that uses the connection. Then creds
returns the new address, as a new version of the role.`
