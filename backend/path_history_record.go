package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathHistoryRecord() *framework.Path {
	return recordPath("history/"+framework.GenericNameRegex("role")+"/"+framework.GenericNameRegex("id"), "role-history-record", "role", b.historyOf(roles.Prefix, "role"))
}

func (b *backend) pathConnectionHistoryRecord() *framework.Path {
	return recordPath("connections/"+framework.GenericNameRegex("name")+"/history/"+framework.GenericNameRegex("id"), "connection-history-record", "name", b.historyOf(roles.ConnectionPrefix, "name"))
}

func (b *backend) pathConfigHistoryRecord() *framework.Path {
	return recordPath("config/history/"+framework.GenericNameRegex("id"), "configuration-history-record", "", b.configHistory)
}

// recordPath is one entry of a history.
func recordPath(pattern, suffix, nameOf string, find historian) *framework.Path {
	fields := map[string]*framework.FieldSchema{
		"id":     nameField("The rotation_id."),
		"format": {Type: framework.TypeString, Default: "json", Query: true, Description: "json, or markdown for a record on file."},
	}
	if nameOf != "" {
		fields[nameOf] = nameField("Whose history.")
	}
	return &framework.Path{
		Pattern:      pattern,
		DisplayAttrs: attributes("", suffix),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: operation(recordRead(find), "Read the record of one operation.", recordFields()),
		},
		HelpSynopsis:    "Read the record of one operation.",
		HelpDescription: oneLine(recordHelp),
	}
}

// recordFields declares a record, in either format.
func recordFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"rotation_id":      field(framework.TypeString, "Id of the operation."),
		"kind":             field(framework.TypeString, "create, import, rotate, rollback, retire, repair, follow, publish, delete, configure or prune."),
		"trigger":          field(framework.TypeString, "manual, schedule, recovery or check."),
		"actor":            field(framework.TypeMap, "Who asked for the operation: display_name and entity_id."),
		"reason":           field(framework.TypeString, "Why, in the words of the request."),
		"vault_request_id": field(framework.TypeString, "Id of the request, as in Vault's audit log."),
		"started":          field(framework.TypeString, "When it started."),
		"secrets":          field(framework.TypeStringSlice, "Names of the secrets that took part."),
		"revoke_previous":  field(framework.TypeBool, "Whether the replaced values got no overlap."),
		"attempts":         field(framework.TypeInt, "How often recovery could not reach a target."),
		"tasks":            field(framework.TypeSlice, "What the engine does after the commit, such as checks; in records of kind follow, the results."),
		"follows":          field(framework.TypeString, "Id of the operation that these tasks belong to, or that this one rolls back because a task failed."),
		"failed_tasks":     field(framework.TypeStringSlice, "For a rollback after a failed task: the names of the required tasks that failed."),
		"follows_kind":     field(framework.TypeString, "Kind of the operation in follows."),
		"role":             field(framework.TypeString, "Role or connection whose history this is."),
		"environment":      field(framework.TypeString, "Label of the environment."),
		"outcome":          field(framework.TypeString, "completed, rolled_back or failed."),
		"duration_ms":      field(framework.TypeInt, "Milliseconds from start to end."),
		"version":          field(framework.TypeInt, "Version after the operation."),
		"results":          field(framework.TypeSlice, "For each secret, its versions and steps."),
		"issues":           field(framework.TypeStringSlice, "What a person should know."),
		"changes":          field(framework.TypeSlice, "For kind configure: each changed field, with its values from and to."),
		"pruned":           field(framework.TypeMap, "For kind prune: how many entries were dropped, their first_sequence and last_sequence, when the oldest and the newest of them started, and head_hash, the hash of the last."),
		"next_rotation":    field(framework.TypeString, "When the next automatic rotation was to start."),
		"sequence":         field(framework.TypeInt, "Number of the entry."),
		"hash":             field(framework.TypeString, "SHA-256 of previous_hash, a newline and canonical."),
		"previous_hash":    field(framework.TypeString, "Hash of the entry before."),
		"canonical":        field(framework.TypeString, "The record as hashed."),
		"markdown":         field(framework.TypeString, "The record as Markdown; only with format=markdown."),
	}
}

// recordRead corresponds to READ on history/:role/:id.
func recordRead(find historian) framework.OperationFunc {
	return func(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		format := d.Get("format").(string)
		if format != "json" && format != "markdown" {
			return nil, rotation.Invalid("format", "is %q; it must be json or markdown", format)
		}
		r, err := find(ctx, d)
		if err != nil {
			return nil, err
		}
		if format == "markdown" {
			timeline, err := audit.Load(ctx, r, d.Get("id").(string))
			if err != nil || timeline == nil {
				return nil, err
			}
			return &logical.Response{Data: map[string]any{"markdown": timeline.Markdown(check.Latencies)}}, nil
		}
		e, _, err := r.Find(ctx, d.Get("id").(string))
		if err != nil || e == nil {
			return nil, err
		}
		data, err := audit.Fields(*e)
		return &logical.Response{Data: data}, err
	}
}

const recordHelp = `
Answers who did what, when, for how long and why; the versions and steps of each secret;
what was proven, and what went wrong. format=markdown answers it as the record that a
rotation procedure asks for, with what happened since: the checks after the commit, a
rollback, and the end of the replaced values.`
