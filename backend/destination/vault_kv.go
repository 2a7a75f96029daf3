package destination

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// VaultKV publishes to a KV secrets engine of version 2, in this or another Vault.
// Each value is the key value of a secret of its own, beside version and rotated,
// in one write with check-and-set. What is this engine's own is marked in
// custom_metadata, so that it stays its own when somebody overwrites the data.
type VaultKV struct {
	// Address is the Vault's, Mount where the KV engine is mounted there.
	Address   string `json:"address"`
	Mount     string `json:"mount"`
	Namespace string `json:"namespace,omitempty"`
	TLSCA     string `json:"tls_ca,omitempty"`
	// RoleID and SecretID log in by AppRole, mounted at AuthMount, for a token that
	// is revoked after each use; or Token is used as it is.
	RoleID    string `json:"role_id,omitempty"`
	SecretID  string `json:"secret_id,omitempty"`
	AuthMount string `json:"auth_mount,omitempty"`
	Token     string `json:"token,omitempty"`
}

// Fields implements Target.
func (v *VaultKV) Fields() map[string]*string {
	return map[string]*string{
		"address": &v.Address, "mount": &v.Mount, "namespace": &v.Namespace, "tls_ca": &v.TLSCA,
		"role_id": &v.RoleID, "secret_id": &v.SecretID, "auth_mount": &v.AuthMount, "token": &v.Token,
	}
}

// Validate implements Target.
func (v *VaultKV) Validate() error {
	if err := checkAddress("address", v.Address); err != nil {
		return err
	}
	if _, err := outbound.Client(v.TLSCA); err != nil {
		return invalid("tls_ca", "%v", err)
	}
	for field, path := range map[string]string{"mount": v.mount(), "auth_mount": v.authMount()} {
		if !isName(path) {
			return invalid(field, "%q is no path of a mount; give it without slashes around it, like secret", path)
		}
	}
	switch {
	case strings.ContainsAny(v.Namespace+v.Token, "\r\n"):
		return invalid("namespace, token", "has a line break")
	case v.Token == "" && (v.RoleID == "" || v.SecretID == ""):
		return invalid("role_id, secret_id", "are missing: give both, of an AppRole with the policy in bootstrap/destinations/, or a token")
	case v.Token != "" && (v.RoleID != "" || v.SecretID != ""):
		return invalid("token", "is given beside role_id or secret_id; give one way to log in, and the other as empty")
	}
	return nil
}

// The mounts that are meant where none is named.
const (
	defaultMount     = "secret"
	defaultAuthMount = "approle"
)

func (v *VaultKV) mount() string {
	if v.Mount == "" {
		return defaultMount
	}
	return v.Mount
}

func (v *VaultKV) authMount() string {
	if v.AuthMount == "" {
		return defaultAuthMount
	}
	return v.AuthMount
}

// Where implements Target.
func (v *VaultKV) Where() string {
	where := "KV " + v.mount() + " of " + outbound.Host(v.Address)
	if v.Namespace != "" {
		where += ", namespace " + v.Namespace
	}
	return where
}

// Preflight implements Target.
func (v *VaultKV) Preflight(ctx context.Context, c Copy) error {
	return v.use(ctx, func(s *kvSession) (problems error) {
		for _, item := range c.Items {
			if err := s.probe(ctx, c, item.Name); err != nil {
				problems = errors.Join(problems, fmt.Errorf("%s: %w", item.Name, err))
			}
		}
		return problems
	})
}

// Publish implements Target.
func (v *VaultKV) Publish(ctx context.Context, c Copy) error {
	return v.use(ctx, func(s *kvSession) error {
		for _, item := range c.Items {
			if err := s.publish(ctx, c, item); err != nil {
				return fmt.Errorf("%s: %w", item.Name, err)
			}
		}
		return nil
	})
}

// Compare implements Target.
func (v *VaultKV) Compare(ctx context.Context, c Copy) (differences []string, err error) {
	err = v.use(ctx, func(s *kvSession) error {
		differences = nil
		for _, item := range c.Items {
			e, err := s.read(ctx, item.Name)
			if err != nil {
				return fmt.Errorf("%s: %w", item.Name, err)
			}
			if difference := e.difference(c, item); difference != "" {
				differences = append(differences, item.Name+" "+difference)
			}
		}
		return nil
	})
	return differences, err
}

// probe tries whether a name may be published under.
func (s *kvSession) probe(ctx context.Context, c Copy, name string) error {
	if err := s.allowed(ctx, name); err != nil {
		return err
	}
	e, err := s.read(ctx, name)
	if err == nil && e.foreign(c) {
		return foreign()
	}
	return err
}

// Publish implements Target.
func (v *VaultKV) Publish(ctx context.Context, c Copy) error {
	s, err := v.open(ctx)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	for _, item := range c.Items {
		if err := s.publish(ctx, c, item); err != nil {
			return fmt.Errorf("%s: %w", item.Name, err)
		}
	}
	return nil
}

// Compare implements Target.
func (v *VaultKV) Compare(ctx context.Context, c Copy) (differences []string, err error) {
	s, err := v.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close(ctx)
	for _, item := range c.Items {
		e, err := s.read(ctx, item.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", item.Name, err)
		}
		if difference := e.difference(c, item); difference != "" {
			differences = append(differences, item.Name+" "+difference)
		}
	}
	return differences, nil
}

// kvEntry is what a KV engine has under one name.
type kvEntry struct {
	exists bool
	// custom is its custom_metadata.
	custom map[string]string
	// version is the latest, data what it has, nil if it was deleted or destroyed.
	version int
	data    map[string]any
}

// The keys of data, and the one of custom_metadata.
const (
	valueKey   = "value"
	versionKey = "version"
	rotatedKey = "rotated"
	ownerKey   = "smvm-owner"
)

// same reports whether it has the value of an item.
func (e kvEntry) same(item Item) bool { return e.data[valueKey] == item.Value }

// holds reports whether it is exactly this item, which nobody else could have
// written.
func (e kvEntry) holds(c Copy, item Item) bool {
	for key, want := range kvData(c, item) {
		if e.data[key] != want {
			return false
		}
	}
	return true
}

func kvData(c Copy, item Item) map[string]any {
	return map[string]any{
		valueKey: item.Value, versionKey: fmt.Sprint(c.Stamp.Version), rotatedKey: c.Stamp.Time.UTC().Format(time.RFC3339),
	}
}

func (e kvEntry) foreign(c Copy) bool {
	return e.exists && e.custom[ownerKey] != c.Owner && !c.Adopt
}

func (e kvEntry) stamp() Stamp {
	version, _ := e.data[versionKey].(string)
	rotated, _ := e.data[rotatedKey].(string)
	at, err := time.Parse(time.RFC3339, rotated)
	if err != nil {
		return Stamp{}
	}
	return parseStamp(fmt.Sprintf("%s-%d", version, at.Unix()))
}

func (e kvEntry) difference(c Copy, item Item) string {
	switch {
	case !e.exists || e.version == 0:
		return "is missing"
	case e.custom[ownerKey] != c.Owner:
		return "is not this engine's"
	case e.data == nil:
		return "was deleted"
	case !e.same(item):
		return "has another value"
	}
	return ""
}

// publishAttempts is how often a write is tried that somebody else's has beaten.
const publishAttempts = 3

// publish makes the engine hold one item.
func (s *kvSession) publish(ctx context.Context, c Copy, item Item) error {
	for range publishAttempts {
		e, err := s.read(ctx, item.Name)
		if err != nil {
			return err
		}
		switch ours := e.custom[ownerKey] == c.Owner; {
		case ours && e.same(item):
			return nil
		case e.holds(c, item):
			return s.claim(ctx, item.Name, e, c.Owner) // a crash came between the two writes
		case e.foreign(c):
			return foreign()
		case ours && c.Stamp.older(e.stamp()):
			return superseded(e.stamp())
		}
		if err := s.write(ctx, c, item, e); !errors.Is(err, errContended) {
			return err
		}
	}
	return errContended
}

// write puts one item in place of what was read, and reads it back. Keys that
// others have added stay.
func (s *kvSession) write(ctx context.Context, c Copy, item Item, e kvEntry) error {
	data := map[string]any{}
	maps.Copy(data, e.data)
	maps.Copy(data, kvData(c, item))
	var answer struct {
		Errors []string `json:"errors"`
	}
	status, err := s.call(ctx, http.MethodPost, s.path("data", item.Name), map[string]any{
		"data": data, "options": map[string]any{"cas": e.version},
	}, &answer)
	if status == http.StatusBadRequest && strings.Contains(strings.Join(answer.Errors, " "), "check-and-set") {
		return errContended
	}
	if err := explain(status, err, "Vault"); err != nil {
		return err
	}
	if e.custom[ownerKey] != c.Owner {
		if err := s.claim(ctx, item.Name, e, c.Owner); err != nil {
			return err
		}
	}
	now, err := s.read(ctx, item.Name)
	if err == nil && !now.same(item) {
		err = errLying
	}
	return err
}

// claim marks an entry as this engine's own.
func (s *kvSession) claim(ctx context.Context, name string, e kvEntry, owner string) error {
	custom := map[string]string{}
	maps.Copy(custom, e.custom)
	custom[ownerKey] = owner
	status, err := s.call(ctx, http.MethodPost, s.path("metadata", name), map[string]any{"custom_metadata": custom}, nil)
	return explain(status, err, "Vault")
}
