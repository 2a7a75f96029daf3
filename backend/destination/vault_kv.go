package destination

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
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
	if err := checkWay(v.TLSCA, v.Addresses()); err != nil {
		return err
	}
	for field, path := range map[string]string{"mount": v.mount(), "auth_mount": v.authMount()} {
		if !isName(path) {
			return rotation.Invalid(field, "%q is no path of a mount; give it without slashes around it, like secret", path)
		}
	}
	switch {
	case strings.ContainsAny(v.Namespace+v.Token, "\r\n"):
		return rotation.Invalid("namespace, token", "has a line break")
	case v.Token == "" && (v.RoleID == "" || v.SecretID == ""):
		return rotation.Invalid("role_id, secret_id", "are missing: give both, of an AppRole with the policy in bootstrap/operate/destinations/, or a token")
	case v.Token != "" && (v.RoleID != "" || v.SecretID != ""):
		return rotation.Invalid("token", "is given beside role_id or secret_id; give one way to log in, and the other as empty")
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

// Addresses implements Target.
func (v *VaultKV) Addresses() map[string]string { return map[string]string{"address": v.Address} }

// Where implements Target.
func (v *VaultKV) Where() string {
	where := "KV " + v.mount() + " of " + outbound.Host(v.Address)
	if v.Namespace != "" {
		where += ", namespace " + v.Namespace
	}
	return where
}

// Preflight implements Target.
func (v *VaultKV) Preflight(ctx context.Context, rule outbound.Rule, c Copy) error {
	return v.use(ctx, rule, func(s *kvSession) (problems error) {
		for _, item := range c.Items {
			if err := s.probe(ctx, c, item.Name); err != nil {
				problems = errors.Join(problems, fmt.Errorf("%s: %w", item.Name, err))
			}
		}
		return problems
	})
}

// Untried implements Target: Vault tells what a token may do.
func (v *VaultKV) Untried() string { return "" }

// Publish implements Target.
func (v *VaultKV) Publish(ctx context.Context, rule outbound.Rule, c Copy) error {
	return v.use(ctx, rule, func(s *kvSession) error {
		for _, item := range c.Items {
			if err := s.publish(ctx, c, item); err != nil {
				return fmt.Errorf("%s: %w", item.Name, err)
			}
		}
		return nil
	})
}

// Compare implements Target.
func (v *VaultKV) Compare(ctx context.Context, rule outbound.Rule, c Copy) (differences []string, err error) {
	err = v.use(ctx, rule, func(s *kvSession) error {
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
