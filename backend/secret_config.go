package backend

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// The names of the types of secrets.
const (
	databaseType = "database"
	jwtType      = "jwt"
	apiKeyType   = "api_key"
	randomType   = "random"
)

// typeSchema is what the paths know about a type: which fields of a request are
// its own, which of them carries a value to import, and what creds answers.
type typeSchema struct {
	fields      []string
	importField string
	// keyField carries the value instead where the algorithm has private keys.
	keyField string
	answers  []string
}

// imports are the fields that may carry a value.
func (s typeSchema) imports() []string {
	if s.keyField == "" {
		return []string{s.importField}
	}
	return []string{s.importField, s.keyField}
}

// all are the fields that belong to the type.
func (s typeSchema) all() []string { return append(slices.Clone(s.fields), s.imports()...) }

var typeSchemas = map[string]typeSchema{
	databaseType: {
		fields:      []string{"connection", "rotation_strategy", "usernames", "verification_statements", "rotation_statements", "password_policy", "on_overlap_end", "drain_timeout"},
		importField: "password",
		answers:     []string{"username", "password", "host", "port", "database", "sslmode", "ssl_root_certificate", "connection_string"},
	},
	jwtType: {
		fields: []string{
			"algorithm", "key_bits", "exportable", "issuer", "audience", "max_ttl", "allowed_claims", "denied_claims", "claims_template",
		},
		importField: "secret",
		keyField:    "private_key",
		answers: []string{
			"algorithm", "kid", "secret", "public_key", "public_jwk", "private_key", "private_jwk",
			"previous_algorithm", "previous_kid", "previous_secret", "previous_public_key",
		},
	},
	apiKeyType: {
		fields:      []string{"prefix", "length", "hash_only"},
		importField: "key",
		answers:     []string{"key", "previous_key", "key_sha256", "previous_key_sha256"},
	},
	randomType: {
		fields:      []string{"password_policy", "length", "charset"},
		importField: "value",
		answers:     []string{"value"},
	},
}

// typeNames lists the types in alphabetical order.
func typeNames() []string {
	names := make([]string, 0, len(typeSchemas))
	for name := range typeSchemas {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// checkTypeFields refuses fields that belong to another type.
func checkTypeFields(d *framework.FieldData, typeName string) error {
	schema, ok := typeSchemas[typeName]
	if !ok {
		return invalid("type", "%q is not a type of secret; the types are: %s", typeName, strings.Join(typeNames(), ", "))
	}
	for other, s := range typeSchemas {
		for _, name := range s.all() {
			if _, named := d.GetOk(name); named && !slices.Contains(schema.all(), name) {
				return invalid(name, "is a field of type %s, not of type %s, which has: %s", other, typeName, strings.Join(schema.all(), ", "))
			}
		}
	}
	return nil
}

// takeConfig applies the fields of the request to a stored configuration, which
// is empty for a new secret.
func takeConfig(d *framework.FieldData, typeName string, stored json.RawMessage) (json.RawMessage, error) {
	switch typeName {
	case databaseType:
		return take(stored, func(c *secret.DatabaseConfig) {
			takeString(d, "connection", &c.Connection)
			takeString(d, "rotation_strategy", &c.RotationStrategy)
			takeString(d, "password_policy", &c.PasswordPolicy)
			takeString(d, "on_overlap_end", &c.OnOverlapEnd)
			takeNumber(d, "drain_timeout", &c.DrainTimeout)
			takeStrings(d, "usernames", &c.Usernames)
			takeStrings(d, "verification_statements", &c.VerificationStatements)
			takeStrings(d, "rotation_statements", &c.RotationStatements)
			c.RotationStrategy = or(c.RotationStrategy, secret.SingleUser)
		})
	case jwtType:
		return take(stored, func(c *secret.JWTConfig) {
			takeString(d, "algorithm", &c.Algorithm)
			takeNumber(d, "key_bits", &c.KeyBits)
			takeBool(d, "exportable", &c.Exportable)
			takeString(d, "issuer", &c.Issuer)
			takeStrings(d, "audience", &c.Audience)
			takeNumber(d, "max_ttl", &c.MaxTTL)
			takeStrings(d, "allowed_claims", &c.AllowedClaims)
			takeStrings(d, "denied_claims", &c.DeniedClaims)
			takeString(d, "claims_template", &c.ClaimsTemplate)
			c.Algorithm = secret.AlgorithmName(or(c.Algorithm, secret.DefaultAlgorithm))
		})
	case apiKeyType:
		return take(stored, func(c *secret.APIKeyConfig) {
			takeString(d, "prefix", &c.Prefix)
			takeNumber(d, "length", &c.Length)
			takeBool(d, "hash_only", &c.HashOnly)
		})
	default:
		return take(stored, func(c *secret.RandomConfig) {
			takeString(d, "password_policy", &c.PasswordPolicy)
			takeString(d, "charset", &c.Charset)
			takeNumber(d, "length", &c.Length)
		})
	}
}

// take decodes a configuration, changes it, and encodes it again.
func take[C any](stored json.RawMessage, change func(*C)) (json.RawMessage, error) {
	var c C
	if len(stored) > 0 {
		if err := json.Unmarshal(stored, &c); err != nil {
			return nil, err
		}
	}
	change(&c)
	return json.Marshal(c)
}

func takeString(d *framework.FieldData, name string, target *string) {
	if v, ok := d.GetOk(name); ok {
		*target = v.(string)
	}
}

func takeStrings(d *framework.FieldData, name string, target *[]string) {
	if v, ok := d.GetOk(name); ok {
		*target = v.([]string)
	}
}

func takeNumber(d *framework.FieldData, name string, target *int) {
	if v, ok := d.GetOk(name); ok {
		*target = v.(int)
	}
}

func takeBool(d *framework.FieldData, name string, target *bool) {
	if v, ok := d.GetOk(name); ok {
		*target = v.(bool)
	}
}

// rolewideAnswers are the names that creds/:role answers beside those of secrets.
var rolewideAnswers = []string{
	"version", "last_vault_rotation", "next_vault_rotation", "rotation_period", "ttl", "changed",
}

// checkFlat refuses a name whose answers would collide with those of another
// secret when creds/:role answers all of them side by side.
func checkFlat(s *rotation.Snapshot, name, typeName string) error {
	taken := map[string]string{}
	for _, answer := range rolewideAnswers {
		taken[answer] = "what creds answers for the whole role"
	}
	for other, existing := range s.Secrets {
		if other == name {
			continue // this request, delivered again
		}
		for _, answer := range typeSchemas[existing.Type].answers {
			taken[other+"_"+answer] = "secret " + other
		}
	}
	for _, answer := range typeSchemas[typeName].answers {
		if owner := taken[name+"_"+answer]; owner != "" {
			return invalid("name", "%q would make creds answer %s twice, for it and for %s; choose another name", name, name+"_"+answer, owner)
		}
	}
	return nil
}
