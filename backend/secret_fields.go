package backend

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// The types of secrets that have paths of their own, or users of databases.
const (
	databaseType   = database.TypeName
	connectionType = connections.Type
	jwtType        = "jwt"
	apiKeyType     = "api_key"
)

// databaseConfig reads the configuration of a database secret.
var databaseConfig = database.ConfigOf

// secretTypes are the types that a role's secrets can have, by name.
type secretTypes map[string]secret.Type

// names lists them in alphabetical order.
func (t secretTypes) names() []string { return slices.Sorted(maps.Keys(t)) }

// all are the fields that belong to a type.
func (t secretTypes) all(typeName string) []secret.Field {
	schema := t[typeName].Schema()
	return append(slices.Clone(schema.Settings), schema.Imports...)
}

// settingNames are the names of fields.
func settingNames(fields []secret.Field) []string {
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.Name)
	}
	return names
}

// schema declares the fields of all types. What is a field of several says so.
func (t secretTypes) schema() map[string]*framework.FieldSchema {
	declared, owners, helps := map[string]*framework.FieldSchema{}, map[string][]string{}, map[string][]string{}
	for _, typeName := range t.names() {
		for _, f := range t.all(typeName) {
			declared[f.Name] = fieldSchema(f)
			owners[f.Name], helps[f.Name] = append(owners[f.Name], typeName), append(helps[f.Name], f.Help)
		}
	}
	for name, f := range declared {
		f.Description = strings.Join(owners[name], ", ") + ": " + helps[name][0]
		if len(slices.Compact(slices.Clone(helps[name]))) > 1 {
			f.Description = ""
			for i, help := range helps[name] {
				f.Description += " " + owners[name][i] + ": " + help
			}
			f.Description = strings.TrimSpace(f.Description)
		}
	}
	return declared
}

// fieldSchema declares a field as Vault's framework has it.
func fieldSchema(f secret.Field) *framework.FieldSchema {
	kinds := map[secret.Kind]framework.FieldType{
		secret.Names: framework.TypeCommaStringSlice, secret.Texts: framework.TypeStringSlice, secret.Number: framework.TypeInt,
		secret.Seconds: framework.TypeDurationSecond, secret.Switch: framework.TypeBool,
	}
	declared := field(cmp.Or(kinds[f.Kind], framework.TypeString), f.Help)
	if f.Kind == secret.Hidden {
		declared = sensitive(f.Help)
	}
	for _, value := range f.Values {
		declared.AllowedValues = append(declared.AllowedValues, value)
	}
	return declared
}

// checkFields refuses fields that belong to another type.
func (t secretTypes) checkFields(d *framework.FieldData, typeName string) error {
	if t[typeName] == nil {
		return rotation.Invalid("type", "%q is not a type of secret; the types are: %s", typeName, strings.Join(t.names(), ", "))
	}
	own := settingNames(t.all(typeName))
	for _, other := range t.names() {
		for _, name := range settingNames(t.all(other)) {
			if _, named := d.GetOk(name); named && !slices.Contains(own, name) {
				return rotation.Invalid(name, "is a field of type %s, not of type %s, which has: %s", other, typeName, strings.Join(own, ", "))
			}
		}
	}
	return nil
}

// take applies the fields of the request to a stored configuration, which is empty for a
// new secret.
func (t secretTypes) take(d *framework.FieldData, typeName string, stored json.RawMessage) (json.RawMessage, error) {
	config := map[string]any{}
	if len(stored) > 0 {
		if err := json.Unmarshal(stored, &config); err != nil {
			return nil, fmt.Errorf("decode configuration: %w", err)
		}
	}
	for _, f := range t[typeName].Schema().Settings {
		if v, ok := d.GetOk(f.Name); ok {
			config[f.Name] = v
		}
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return t[typeName].Normalize(raw)
}

// supplied is the value that a request gives to be taken over, and its field.
func (t secretTypes) supplied(d *framework.FieldData, s *rotation.Secret) (field, value string, given bool, err error) {
	field, err = t[s.Type].ImportField(s.Config, func(name string) bool {
		_, named := d.GetOk(name)
		return named
	})
	if err != nil {
		return "", "", false, err
	}
	v, given := d.GetOk(field)
	value, _ = v.(string)
	return field, value, given, nil
}

// rolewideAnswers are the names that creds/:role answers beside those of secrets.
var rolewideAnswers = []string{
	"version", "last_vault_rotation", "next_vault_rotation", "rotation_period", "ttl", "changed",
}

// checkFlat refuses a name whose answers would collide with those of another
// secret when creds/:role answers all of them side by side.
func (t secretTypes) checkFlat(s *rotation.Snapshot, name, typeName string) error {
	taken := map[string]string{}
	for _, answer := range rolewideAnswers {
		taken[answer] = "what creds answers for the whole role"
	}
	for other, existing := range s.Secrets {
		if other == name || t[existing.Type] == nil {
			continue // this request, delivered again, or of a type that is no more
		}
		for _, answer := range t[existing.Type].Schema().Answers {
			taken[other+"_"+answer.Name] = "secret " + other
		}
	}
	for _, answer := range t[typeName].Schema().Answers {
		if owner := taken[name+"_"+answer.Name]; owner != "" {
			return rotation.Invalid("name", "%q would make creds answer %s twice, for it and for %s; choose another name", name, name+"_"+answer.Name, owner)
		}
	}
	return nil
}
