package backend

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

func (b *backend) pathConnections() *framework.Path {
	return &framework.Path{
		Pattern:        "connections/" + framework.GenericNameRegex("name"),
		DisplayAttrs:   attributes("", "connection"),
		Fields:         connectionFields(),
		ExistenceCheck: b.pathConnectionExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: mutation(b.pathConnectionWrite, "Tell how to reach a PostgreSQL.", nil),
			logical.UpdateOperation: mutation(b.pathConnectionWrite, "Change how to reach a PostgreSQL.", nil),
			logical.ReadOperation:   operation(b.pathConnectionRead, "Read a connection, without its secrets.", connectionAnswer()),
			logical.DeleteOperation: mutation(b.pathConnectionDelete, "Forget a connection that no secret uses.", nil),
		},
		HelpSynopsis:    "Manage the ways to reach a PostgreSQL as its administrator.",
		HelpDescription: oneLine(connectionHelp),
	}
}

func connectionFields() map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{
		"name":                    nameField("Name of the connection."),
		"connection_url":          field(framework.TypeString, "postgresql://{{username}}:{{password}}@host:port/database?sslmode=verify-full, or give host, port, database and sslmode. It may name several hosts, as host:port,host:port."),
		"host":                    field(framework.TypeString, "Name or address of the server; or several, separated by commas, each with :port if it has another one, of which the engine uses the primary."),
		"port":                    field(framework.TypeInt, "Port of the server; 5432 by default."),
		"target_session_attrs":    field(framework.TypeString, "read-write, the default with several hosts, or primary: which of them the engine and applications use."),
		"database":                field(framework.TypeString, "Database to log in to; applications are given the same one."),
		"sslmode":                 field(framework.TypeString, "disable, require, verify-ca or verify-full, the default."),
		"username":                field(framework.TypeString, "User of the engine itself. It needs no superuser: see the README for the grants."),
		"password":                sensitive("Password of that user. Rotate it by rotate-root as soon as the connection works."),
		"verify_connection":       {Type: framework.TypeBool, Default: true, Description: "Log in before the connection is stored."},
		"tls_ca":                  field(framework.TypeString, "Certificates (PEM) that the server's certificate must descend from."),
		"tls_certificate":         field(framework.TypeString, "Client certificate (PEM)."),
		"tls_key":                 sensitive("Private key (PEM) of the client certificate."),
		"tls_server_name":         field(framework.TypeString, "Name in the server's certificate, if it is not the host."),
		"max_open_connections":    field(framework.TypeInt, "Connections the engine holds open at most; 4 by default."),
		"connect_timeout":         field(framework.TypeDurationSecond, "Time to reach the server and log in; 5 s by default, at most 60 s. A request that waits for the server holds up sealing and step-down for as long."),
		"password_authentication": field(framework.TypeString, "scram-sha-256 by default, so that no password reaches the server in clear; password for servers that can't."),
		"prove_refusals":          {Type: framework.TypeBool, Default: true, Description: "Log in with what has to be refused, such as a retired password, to prove it; at most four times an hour for each user."},
		"channel_binding":         field(framework.TypeString, "prefer by default: over TLS, each login by SCRAM proves that nobody ends TLS on the way. disable gives that proof up, for a proxy of yours that ends TLS and begins it again: whoever else has a certificate that the connection accepts could then use the engine's sessions. Applications that go the same way are told in connection_string."),

		"allowed_roles":             field(framework.TypeCommaStringSlice, "The roles whose secrets may use the connection; none unless said. * in a name stands for any text, and alone for all roles."),
		"allowed_usernames":         field(framework.TypeCommaStringSlice, "The users of the server that secrets may manage, with * for any text; all but the connection's own if left out."),
		"allow_rotation_statements": field(framework.TypeBool, "Whether secrets may have rotation_statements, which run as the connection's own user; false by default."),

		"take_over": field(framework.TypeCommaStringSlice, "Users that another mount, of this Vault or another one, is told to manage by the comment on them in PostgreSQL: with this write they are this mount's, and the other one is refused from then on. It is not stored."),

		"application_host":       field(framework.TypeString, "Name or address by which applications reach the server, if it is not host; or several, as there."),
		"application_port":       field(framework.TypeInt, "Port for applications, such as that of a pooler, if it is not port."),
		"application_parameters": field(framework.TypeKVPairs, "Parameters of libpq for connection_string, such as target_session_attrs=read-write; sslmode among them is that of applications."),
	}
	for name, f := range scheduleFields() {
		fields[name] = f
	}
	fields["rotation_period"].Description += " 0 leaves the password to rotate-root."
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
	fields["tls_key_set"] = field(framework.TypeBool, "Whether a private key is stored.")
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
	r, err := b.registry.Obtain(ctx, roles.ConnectionPrefix, d.Get("name").(string))
	if err != nil {
		return nil, err
	}
	draft, err := b.draftConnection(ctx, r, d)
	if err != nil {
		return nil, err
	}
	if err := b.checkAdminUnmanaged(ctx, draft.admin); err != nil {
		return nil, err
	}
	if d.Get("verify_connection").(bool) {
		if err := b.verifyConnection(ctx, draft.admin); err != nil {
			return nil, err
		}
	}
	if err := b.checkMoved(ctx, r, draft); err != nil {
		return nil, err
	}
	if _, err := b.mountID(ctx); err != nil { // made with the first connection, by which users are managed
		return nil, err
	}
	if usernames := d.Get("take_over").([]string); len(usernames) > 0 {
		if draft.issues, err = b.takeOver(ctx, r.Name, draft, usernames); err != nil {
			return nil, err
		}
	}
	if err := b.awaitMoves(ctx, r, draft); err != nil {
		return nil, err
	}
	if err := b.saveConnection(ctx, req, r, draft); err != nil {
		return nil, err
	}
	return b.moving(ctx, r, draft)
}

// moving has the logins of a connection tried that leads elsewhere now, and says what
// readers get until then, and whose readers that may be is not known.
func (b *backend) moving(ctx context.Context, r *rotation.Role, draft *connectionDraft) (*logical.Response, error) {
	if draft.moves {
		b.drift.connectionMoved(r.Name)
	}
	resp := &logical.Response{Warnings: draft.issues}
	users, damaged, err := b.users(ctx, r.Name)
	if err != nil {
		return resp, err
	}
	if damaged != nil {
		resp.AddWarning(fmt.Sprintf("this was stored without knowing whether all who use the connection can live with it: %v", damaged))
	}
	if draft.moves && len(users) > 0 {
		resp.AddWarning(fmt.Sprintf("readers of %s are told the new way, as a new version of their role, as soon as their logins were proven there; until then they get the earlier one. Read status/<role> for what the server refuses", sample(named(users))))
	}
	if len(resp.Warnings) == 0 {
		return nil, nil
	}
	return resp, nil
}

// verifyConnection logs in with the login that is about to be stored. When that
// is a new one, the stored one is not asked: it may be what stopped working.
func (b *backend) verifyConnection(ctx context.Context, admin rotation.Secret) error {
	v := admin.Current
	if admin.Pending != nil {
		v = admin.Pending
	}
	if err := b.admin.Test(ctx, admin, v.Material); err != nil {
		return invalid("connection_url, username, password", "the server was asked and %v. Nothing was stored; verify_connection=false stores without asking", err)
	}
	return nil
}

// saveConnection stores the draft, with a history record: who reaches the
// database as its administrator is worth an entry.
func (b *backend) saveConnection(ctx context.Context, req *logical.Request, r *rotation.Role, draft *connectionDraft) error {
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	if err := b.checkUsers(ctx, r, draft); err != nil {
		return err
	}
	rec := b.newRecord(req, rotation.KindImport, adminSecret, connectionType)
	rec.Results[0].From, rec.Issues = draft.based, draft.issues
	err := r.ReplaceAdministrator(ctx, rec, draft.based, draft.admin, draft.policy)
	b.postgres.Forget(r.Name)
	return err
}

// awaitMoves waits until readers have been told of an earlier change of the connection,
// if that is under way: nobody has asked for it by name, who could be told to wait.
func (b *backend) awaitMoves(ctx context.Context, r *rotation.Role, draft *connectionDraft) error {
	if !draft.moves {
		return nil
	}
	users, _, err := b.users(ctx, r.Name)
	if err != nil {
		return err
	}
	for _, user := range users {
		run := user.role.Running()
		if run == nil || run.Operation().Kind != rotation.KindMove {
			continue
		}
		select {
		case <-run.Done():
		case <-ctx.Done():
			return fmt.Errorf("%w: readers of role %s are being told an earlier change of connection %s; try again", rotation.ErrInFlight, user.role.Name, r.Name)
		}
	}
	return nil
}

// checkUsers refuses a draft that the secrets which use the connection, or are about
// to, could not live with. The caller holds the lock on claims.
func (b *backend) checkUsers(ctx context.Context, r *rotation.Role, draft *connectionDraft) error {
	users, _, err := b.users(ctx, r.Name)
	if err != nil {
		return err
	}
	if err := checkNarrowed(draft.settings.Access, users); err != nil {
		return err
	}
	endpoint, err := draft.settings.Endpoint()
	if err != nil {
		return err
	}
	if owners := b.claimedAt(endpoint); len(owners) > 0 && (draft.moves || draft.regrants) {
		return fmt.Errorf("%w: %s is being created; try again", rotation.ErrInFlight, sample(owners))
	}
	for _, user := range users {
		if draft.moves && user.role.Busy() {
			return fmt.Errorf("%w: an operation of role %s, which uses connection %s, is under way; try again", rotation.ErrInFlight, user.role.Name, r.Name)
		}
	}
	return nil
}

// pathConnectionRead corresponds to READ on connections/:name.
func (b *backend) pathConnectionRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.registry.Get(ctx, roles.ConnectionPrefix, d.Get("name").(string))
	if err != nil || r == nil || r.Snapshot().Deleted {
		return nil, err
	}
	s := r.Snapshot()
	admin := s.Secrets[adminSecret]
	config, err := connectionSettings(admin)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: connectionData(s, config, b.rotationStatus(r))}, nil
}

func connectionData(s *rotation.Snapshot, settings secret.ConnectionSettings, status map[string]any) map[string]any {
	c := settings.WithDefaults()
	data := map[string]any{
		"username": s.Secrets[adminSecret].Current.Material["username"], "tls_ca": c.TLSCA, "tls_certificate": c.TLSCertificate,
		"tls_key_set": c.TLSKey != "", "tls_server_name": c.TLSServerName, "max_open_connections": c.MaxOpenConnections,
		"connect_timeout": seconds(c.ConnectTimeout), "password_authentication": c.PasswordAuthentication, "prove_refusals": !c.LeaveUnproven, "channel_binding": c.ChannelBinding,
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
		for name, value := range scheduleData(s.Policy, s.Terms) {
			data[name] = value
		}
	}
	return data
}

// pathConnectionDelete corresponds to DELETE on connections/:name.
func (b *backend) pathConnectionDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	r, err := b.registry.Get(ctx, roles.ConnectionPrefix, name)
	if err != nil || r == nil || r.Snapshot().Deleted {
		return nil, err
	}
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	users, damaged, err := b.users(ctx, name)
	if err := errorsFirst(err, damaged); err != nil {
		return nil, err
	}
	using := named(users)
	if endpoint, _, err := b.server(ctx, name); err == nil {
		using = append(using, b.claimedAt(endpoint)...)
	}
	if len(using) > 0 {
		return nil, invalid("name", "connection %s is used by %s; delete those secrets first", name, sample(using))
	}
	err = r.Delete(ctx, b.newRecord(req, rotation.KindDelete, adminSecret, connectionType))
	b.postgres.Forget(name)
	return nil, unlessGone(err)
}

const connectionHelp = `
A connection tells how to reach one PostgreSQL server, as a user that may change
the passwords of the users it manages. Give either connection_url with the
placeholders {{username}} and {{password}}, or host, port, database and sslmode.
The login is tried before anything is stored. The password is never shown again;
rotate it by rotate-root/<name>, or by itself with rotation_period or
rotation_schedule. allowed_roles says which roles may use the connection; no role
may unless it is said. A connection that is changed to lead elsewhere is told to
applications when the logins of their role were proven there, as a new version.`
