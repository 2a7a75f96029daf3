package backend

import (
	"context"
	"encoding/json"
	"fmt"
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
	based    int
	settings secret.ConnectionSettings
	// moves says that applications are to be told another way, and regrants that the
	// connection is for others than before.
	moves, regrants bool
	// issues are what a person should know of the write.
	issues []string
}

// draftConnection applies the request to what is stored.
func (b *backend) draftConnection(ctx context.Context, r *rotation.Role, d *framework.FieldData) (*connectionDraft, error) {
	s := r.Snapshot()
	draft := &connectionDraft{admin: rotation.Secret{Name: adminSecret, Type: connectionType}, based: s.Version, policy: s.Policy}
	stored, err := storedSettings(s)
	if err != nil {
		return nil, err
	}
	if s.Secrets[adminSecret] != nil {
		draft.admin = *s.Secrets[adminSecret]
		// What is in flight is not the login that this request supplies.
		draft.admin.Pending = nil
	}
	if draft.settings, err = b.draftSettings(ctx, r, d, stored); err != nil {
		return nil, err
	}
	if stored != nil {
		draft.moves = draft.settings.WayNumber != stored.WayNumber
		draft.regrants = !draft.settings.Equal(stored.Access)
	}
	if draft.admin.Config, err = json.Marshal(draft.settings); err != nil {
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

// login is the one that is to be stored.
func (c *connectionDraft) login() secret.Login {
	if c.admin.Pending != nil {
		return login(c.admin.Pending)
	}
	return login(c.admin.Current)
}

// storedSettings are those of an existing connection, nil if it is a new one.
func storedSettings(s *rotation.Snapshot) (*secret.ConnectionSettings, error) {
	admin := s.Secrets[adminSecret]
	if admin == nil {
		return nil, nil
	}
	settings, err := connectionSettings(admin)
	return &settings, err
}

// draftSettings applies the request to the settings of a connection; stored is nil
// for a new one.
func (b *backend) draftSettings(ctx context.Context, r *rotation.Role, d *framework.FieldData, stored *secret.ConnectionSettings) (settings secret.ConnectionSettings, err error) {
	if stored != nil {
		settings = *stored
	} else {
		settings.AllowedRoles = []string{}
	}
	takeConnection(d, &settings.ConnectionConfig)
	takeAccess(d, &settings.Access)
	takeApplication(d, &settings.Application)
	if err := settings.Validate(); err != nil || stored == nil {
		return settings, err
	}
	users, damaged, err := b.users(ctx, r.Name)
	if err != nil {
		return settings, err
	}
	if err := checkClearText(d, *stored, settings, users, damaged); err != nil {
		return settings, err
	}
	ways := waysOf(users)
	if damaged != nil { // whose values may have any of them
		for number := range stored.EarlierWays {
			ways[number] = true
		}
		ways[stored.WayNumber] = true
	}
	return settings.Moved(*stored, ways)
}

// waysOf are the numbers of the ways that values of the secrets have.
func waysOf(users []connectionUser) map[int]bool {
	ways := map[int]bool{}
	for _, user := range users {
		for _, v := range []*rotation.Value{user.secret.Current, user.secret.Previous, user.secret.Undecided()} {
			if v != nil {
				ways[secret.WayOf(v.Material)] = true
			}
		}
	}
	return ways
}

// takeAccess takes over the fields that say for whom the connection is.
func takeAccess(d *framework.FieldData, a *secret.Access) {
	takeStrings(d, "allowed_roles", &a.AllowedRoles)
	takeStrings(d, "allowed_usernames", &a.AllowedUsernames)
	takeBool(d, "allow_rotation_statements", &a.AllowRotationStatements)
}

// takeApplication takes over the fields that say how applications reach the server.
func takeApplication(d *framework.FieldData, a *secret.Application) {
	takeString(d, "application_host", &a.ApplicationHost)
	takeNumber(d, "application_port", &a.ApplicationPort)
	if v, ok := d.GetOk("application_parameters"); ok {
		a.ApplicationParameters = v.(map[string]string)
	}
}

// takeConnection takes over the fields that say how to reach the server. Naming
// a URL replaces the parts, and naming a part replaces the URL.
func takeConnection(d *framework.FieldData, c *secret.ConnectionConfig) {
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
		if v, ok := d.GetOk(name); ok {
			*target = v.(string)
		}
	}
	if v, ok := d.GetOk("max_open_connections"); ok {
		c.MaxOpenConnections = v.(int)
	}
	if v, ok := d.GetOk("prove_refusals"); ok {
		c.LeaveUnproven = !v.(bool)
	}
	if v, ok := d.GetOk("connect_timeout"); ok {
		c.ConnectTimeout = time.Duration(v.(int)) * time.Second
	}
}

// checkClearText keeps passwords from being shown to a server of somebody's
// choice. With password_authentication=password they are sent in clear, so then
// the way to the server cannot be changed while secrets use it, nor without
// knowing the administrator's password. That method itself may be chosen for the server
// at which the passwords were proven by SCRAM: some refuse any other.
func checkClearText(d *framework.FieldData, stored, changed secret.ConnectionSettings, users []connectionUser, damaged error) error {
	if changed.PasswordAuthentication != secret.AuthenticatePassword || stored.SameServer(changed.ConnectionConfig) {
		return nil
	}
	if _, ok := d.GetOk("password"); !ok {
		return invalid("password", "is needed again: with password_authentication=password it would be sent in clear by the new way")
	}
	if damaged != nil {
		return fmt.Errorf("the way to the server cannot be changed with password_authentication=password while it is not known who uses it, whose passwords would be sent in clear: %w", damaged)
	}
	if len(users) > 0 && !provenThere(stored, changed, users) {
		return invalid("password_authentication", "the way to the server cannot be changed while it is password and %s use it, whose passwords would be sent in clear; make another connection", sample(named(users)))
	}
	return nil
}

// provenThere reports whether nothing but the method is changed, and all values have
// been used where the connection leads.
func provenThere(stored, changed secret.ConnectionSettings, users []connectionUser) bool {
	method := changed.ConnectionConfig
	method.PasswordAuthentication = stored.PasswordAuthentication
	elsewhere := waysOf(users)
	delete(elsewhere, stored.WayNumber)
	return stored.SameServer(method) && len(elsewhere) == 0 && changed.WayNumber == stored.WayNumber &&
		stored.ApplicationHost == "" && stored.ApplicationPort == 0
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
	if !secret.SameLogin(material, current) {
		admin.Pending = &rotation.Value{Material: material}
	}
	return nil
}
