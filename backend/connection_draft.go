package backend

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// connectionDraft is a connection as it is to be stored.
type connectionDraft struct {
	admin  rotation.Secret
	policy rotation.Policy
	// based is the version the draft was made from; another write in between
	// must not be overwritten.
	based int
}

// draftConnection applies the request to what is stored.
func (b *backend) draftConnection(ctx context.Context, r *rotation.Role, d *framework.FieldData) (*connectionDraft, error) {
	s := r.Snapshot()
	draft := &connectionDraft{admin: rotation.Secret{Name: adminSecret, Type: connectionType}, based: s.Version, policy: s.Policy}
	var config secret.ConnectionConfig
	if stored := s.Secrets[adminSecret]; stored != nil {
		draft.admin = *stored
		// What is in flight is not the login that this request supplies.
		draft.admin.Pending = nil
		var err error
		if config, err = connectionConfig(stored); err != nil {
			return nil, err
		}
	}
	if err := takeConnection(d, &config); err != nil {
		return nil, err
	}
	var err error
	if err := b.checkClearText(ctx, r, d, config); err != nil {
		return nil, err
	}
	if draft.admin.Config, err = json.Marshal(config); err != nil {
		return nil, err
	}
	if err := takeAdmin(d, &draft.admin); err != nil {
		return nil, err
	}
	if v, ok := d.GetOk("rotation_period"); ok && v == 0 {
		draft.policy = rotation.Policy{}
	} else if err := takeSchedule(d, &draft.policy); err != nil {
		return nil, err
	}
	draft.policy.AutoRotate = draft.policy.Period != 0 || draft.policy.Schedule != ""
	return draft, nil
}

// takeConnection takes over the fields that say how to reach the server. Naming
// a URL replaces the parts, and naming a part replaces the URL.
func takeConnection(d *framework.FieldData, c *secret.ConnectionConfig) error {
	_, byURL := d.GetOk("connection_url")
	byParts := false
	for name, target := range map[string]*string{"host": &c.Host, "database": &c.Database, "sslmode": &c.SSLMode} {
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
	} {
		if v, ok := d.GetOk(name); ok {
			*target = v.(string)
		}
	}
	if v, ok := d.GetOk("max_open_connections"); ok {
		c.MaxOpenConnections = v.(int)
	}
	if v, ok := d.GetOk("connect_timeout"); ok {
		c.ConnectTimeout = time.Duration(v.(int)) * time.Second
	}
	return c.Validate()
}

// checkClearText keeps passwords from being shown to a server of somebody's
// choice. With password_authentication=password they are sent in clear, so then
// the way to the server cannot be changed while secrets use it, nor without
// knowing the administrator's password.
func (b *backend) checkClearText(ctx context.Context, r *rotation.Role, d *framework.FieldData, changed secret.ConnectionConfig) error {
	admin := r.Snapshot().Secrets[adminSecret]
	if admin == nil || changed.PasswordAuthentication != secret.AuthenticatePassword {
		return nil
	}
	stored, err := connectionConfig(admin)
	if err != nil || stored.SameServer(changed) {
		return err
	}
	if _, ok := d.GetOk("password"); !ok {
		return invalid("password", "is needed again: with password_authentication=password it would be sent in clear by the new way")
	}
	users, err := b.users(ctx, r.Name)
	if err == nil && len(users) > 0 {
		err = invalid("password_authentication", "the way to the server cannot be changed while it is password and %s use it, whose passwords would be sent in clear; make another connection", sample(users))
	}
	return err
}

// takeAdmin takes over the login. The password of another user is of no use, so
// a new name needs a password too.
func takeAdmin(d *framework.FieldData, admin *rotation.Secret) error {
	username, hasUsername := d.GetOk("username")
	password, hasPassword := d.GetOk("password")
	current := rotation.Material{}
	if admin.Current != nil {
		current = admin.Current.Material
	}
	if !hasUsername {
		username = current["username"]
	}
	switch {
	case username == "":
		return invalid("username", "is missing: give the user that the engine logs in as")
	case !hasPassword && username != current["username"]:
		return invalid("password", "is missing: a new username needs its password")
	case !hasPassword:
		return nil
	}
	material, err := secret.ImportAdmin(username.(string), password.(string))
	if err != nil {
		return err
	}
	if !material.Equal(current) {
		admin.Pending = &rotation.Value{Material: material}
	}
	return nil
}
