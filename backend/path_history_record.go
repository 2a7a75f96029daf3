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
		"format": {Type: framework.TypeString, Default: "json", Query: true, Description: "json, or markdown for a record to file."},
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
		"actor":            field(framework.TypeMap, "Who asked for it: display_name and entity_id."),
		"reason":           field(framework.TypeString, "Why, as given."),
		"vault_request_id": field(framework.TypeString, "Vault's id of the request, as its audit log has it."),
		"started":          field(framework.TypeString, "When it started."),
		"secrets":          field(framework.TypeStringSlice, "Names of the secrets it was about."),
		"revoke_previous":  field(framework.TypeBool, "Whether the replaced values got no overlap."),
		"attempts":         field(framework.TypeInt, "How often recovery found a target unreachable."),
		"tasks":            field(framework.TypeSlice, "What was to follow it, such as checks, or what came of that."),
		"follows":          field(framework.TypeString, "Id of the operation whose tasks these were, or whose failed task this rolls back."),
		"failed_tasks":     field(framework.TypeStringSlice, "Of a rollback after a failed task: the names of the required tasks that failed."),
		"follows_kind":     field(framework.TypeString, "Kind of that operation."),
		"role":             field(framework.TypeString, "Whose history this is."),
		"environment":      field(framework.TypeString, "Label of the environment."),
		"outcome":          field(framework.TypeString, "completed, rolled_back or failed."),
		"duration_ms":      field(framework.TypeInt, "Milliseconds from start to end."),
		"version":          field(framework.TypeInt, "Version afterwards."),
		"results":          field(framework.TypeSlice, "For each secret, its versions and steps."),
		"issues":           field(framework.TypeStringSlice, "What a person should know."),
		"changes":          field(framework.TypeSlice, "Of configure: each field that was changed, with its values from and to."),
		"pruned":           field(framework.TypeMap, "Of prune: how many entries were dropped, their first_sequence and last_sequence, when the oldest and the newest of them started, and head_hash, the hash of the last."),
		"next_rotation":    field(framework.TypeString, "When the next automatic rotation was to start."),
		"sequence":         field(framework.TypeInt, "Number of the entry."),
		"hash":             field(framework.TypeString, "SHA-256 of previous_hash, a newline and canonical."),
		"previous_hash":    field(framework.TypeString, "Hash of the entry before."),
		"canonical":        field(framework.TypeString, "The record as hashed."),
		"markdown":         field(framework.TypeString, "The record to file; only with format=markdown."),
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
Answers who did what, when, for how long and why, with each secret's versions and
steps, what was proven, and what went wrong. format=markdown renders it as the
record that a rotation procedure asks for, with what came of it since: checks after
the cut-over, a rollback, and the end of the replaced values.`
