package backend

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
)

// TestDestinationIsForItsRoles keeps roles from naming a destination that is not for
// them: whoever may write a role does not decide where its values go.
func TestDestinationIsForItsRoles(t *testing.T) {
	m := newMount(t)
	publishedRole(m)
	to := m.inAWS(testenv.NewSecretsManager(t), "values", "{{role}}={{api_key}}")
	delete(to, "allowed_roles")
	m.write("destinations/narrow", to)
	m.refused(logical.UpdateOperation, "roles/default", d("destinations", "narrow"), "destinations", "not for role default", "vault write smvm/destinations/narrow allowed_roles='default'")
	m.write("destinations/narrow", d("allowed_roles", "other,def*"))
	m.refused(logical.UpdateOperation, "roles/shop", d("destinations", "narrow"), "not for role shop", "allowed_roles='other,def*,shop'")
	first := m.newest("default", "publish")
	m.write("roles/default", d("destinations", "narrow"))
	m.recorded(first)
	m.refused(logical.UpdateOperation, "destinations/narrow", d("allowed_roles", "other"), "allowed_roles", "leaves out default")
	m.refused(logical.UpdateOperation, "destinations/narrow", d("allowed_roles", ""), "allowed_roles", "leaves out default")
	if roles := m.read("destinations/narrow", nil)["allowed_roles"].([]string); strings.Join(roles, " ") != "other def*" {
		t.Errorf("it is for %q", roles)
	}
}

// TestDestinationOfBefore keeps the roles of a destination that was stored before it
// could say whom it is for, and takes no others.
func TestDestinationOfBefore(t *testing.T) {
	m := newMount(t)
	publishedRole(m)
	first := m.newest("default", "publish")
	m.write("destinations/aws", m.inAWS(testenv.NewSecretsManager(t), "values", "{{role}}={{api_key}}"))
	m.write("roles/default", d("destinations", "aws"))
	m.recorded(first)
	raw := m.storage.contents(t)[publish.Prefix+"aws"]
	before := strings.Replace(raw, `"allowed_roles":["*"],`, "", 1)
	if before == raw {
		t.Fatal("the field is stored under another name")
	}
	if err := m.storage.Put(t.Context(), &logical.StorageEntry{Key: publish.Prefix + "aws", Value: []byte(before)}); err != nil {
		t.Fatal(err)
	}
	if c, err := destination.Decode([]byte(before)); err != nil || c.AllowedRoles != nil {
		t.Fatalf("it is for %v (%v)", c.AllowedRoles, err)
	}
	m.boot()
	m.write("roles/default", d("overlap", "1h"))
	m.write("destinations/aws", d("timeout", 5))
	m.refused(logical.UpdateOperation, "roles/shop", d("destinations", "aws"), "not for role shop", "allowed_roles='shop'")
	m.write("rotate", nil)
}
