package connections

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// draft is a connection as it is to be stored.
type draft struct {
	admin  rotation.Secret
	policy rotation.Policy
	// based is the state the draft was made from; another write in between must not be
	// overwritten.
	based    *rotation.State
	settings postgres.Settings
	// moves says that applications are to be told another way, and regrants that the
	// connection is for others than before.
	moves, regrants bool
	// issues are what a person should know of the write.
	issues []string
}

// draft applies a write to what is stored.
func (c *Set) draft(ctx context.Context, r *rotation.Role, w Write) (*draft, error) {
	s := r.Snapshot()
	made := &draft{admin: rotation.Secret{Name: Admin, Type: Type}, based: s.State, policy: s.Policy}
	stored, err := storedSettings(s)
	if err != nil {
		return nil, err
	}
	if s.Secrets[Admin] != nil {
		made.admin = *s.Secrets[Admin]
		// What is in flight is not the login that this request supplies.
		made.admin.Pending = nil
	}
	if made.settings, err = c.draftSettings(ctx, r, w, stored); err != nil {
		return nil, err
	}
	if stored != nil {
		made.moves = made.settings.WayNumber != stored.WayNumber
		made.regrants = !made.settings.Equal(stored.Access)
	}
	if made.admin.Config, err = json.Marshal(made.settings); err != nil {
		return nil, err
	}
	if err := w.takeAdmin(&made.admin); err != nil {
		return nil, err
	}
	if err := w.Policy(&made.policy); err != nil {
		return nil, err
	}
	made.policy.AutoRotate = made.policy.Period != 0 || made.policy.Schedule != ""
	return made, nil
}

// value is the login that is to be stored. When that is a new one, the stored one is not
// asked: it may be what stopped working.
func (d *draft) value() *rotation.Value {
	if d.admin.Pending != nil {
		return d.admin.Pending
	}
	return d.admin.Current
}

// storedSettings are those of an existing connection, nil if it is a new one.
func storedSettings(s *rotation.Snapshot) (*postgres.Settings, error) {
	admin := s.Secrets[Admin]
	if admin == nil {
		return nil, nil
	}
	settings, err := postgres.SettingsOf(admin)
	return &settings, err
}

// draftSettings applies a write to the settings of a connection; stored is nil for a new
// one.
func (c *Set) draftSettings(ctx context.Context, r *rotation.Role, w Write, stored *postgres.Settings) (settings postgres.Settings, err error) {
	if stored != nil {
		settings = *stored
	} else {
		settings.AllowedRoles = []string{}
	}
	w.Settings(&settings)
	if err := settings.Validate(); err != nil || stored == nil {
		return settings, err
	}
	users, damaged, err := c.dependents(ctx, r.Name)
	if err != nil {
		return settings, err
	}
	if err := w.checkClearText(*stored, settings, users, damaged); err != nil {
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
func waysOf(users []dependent) map[int]bool {
	ways := map[int]bool{}
	for _, user := range users {
		for _, v := range []*rotation.Value{user.secret.Current, user.secret.Previous, user.secret.Undecided()} {
			if v != nil {
				ways[postgres.WayOf(v.Material)] = true
			}
		}
	}
	return ways
}

// checkClearText keeps passwords from being shown to a server of somebody's
// choice. With password_authentication=password they are sent in clear, so then
// the way to the server cannot be changed while secrets use it, nor without
// knowing the administrator's password. That method itself may be chosen for the server
// at which the passwords were proven by SCRAM: some refuse any other.
func (w Write) checkClearText(stored, changed postgres.Settings, users []dependent, damaged error) error {
	if changed.PasswordAuthentication != postgres.AuthenticatePassword || stored.SameServer(changed.Config) {
		return nil
	}
	if w.Password == nil {
		return rotation.Invalid("password", "must be given again: with password_authentication=password the engine would send it to the new server in clear text")
	}
	if damaged != nil {
		return fmt.Errorf("the engine could not find out which secrets use the connection. With password_authentication=password it would send their passwords to the new server in clear text, so the server cannot change now: %w", damaged)
	}
	if len(users) > 0 && !provenThere(stored, changed, users) {
		return rotation.Invalid("password_authentication", "is password, so the server cannot change while %s use the connection: the engine would send their passwords to the new server in clear text; create another connection", roles.Sample(named(users)))
	}
	return nil
}

// provenThere reports whether nothing but the method is changed, and all values have
// been used where the connection leads.
func provenThere(stored, changed postgres.Settings, users []dependent) bool {
	method := changed.Config
	method.PasswordAuthentication = stored.PasswordAuthentication
	elsewhere := waysOf(users)
	delete(elsewhere, stored.WayNumber)
	return stored.SameServer(method) && len(elsewhere) == 0 && changed.WayNumber == stored.WayNumber &&
		stored.ApplicationHost == "" && stored.ApplicationPort == 0
}

// takeAdmin takes over the login. The password of another user is of no use, so
// a new name needs a password too.
func (w Write) takeAdmin(admin *rotation.Secret) error {
	current := rotation.Material{}
	if admin.Current != nil {
		current = admin.Current.Material
	}
	username := current["username"]
	if w.Username != nil {
		username = *w.Username
	}
	switch {
	case username == "":
		return rotation.Invalid("username", "is missing: give the user that the engine logs in as")
	case w.Password == nil && username != current["username"]:
		return rotation.Invalid("password", "is missing: a new username needs its password")
	case w.Password == nil:
		return nil
	}
	material, err := database.ImportAdmin(username, *w.Password)
	if err != nil {
		return err
	}
	if !postgres.SameLogin(material, current) {
		admin.Pending = &rotation.Value{Material: material}
	}
	return nil
}
