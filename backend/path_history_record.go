package backend

import (
	"context"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/settings"
)

func (b *backend) pathHistoryRecord() *framework.Path {
	return recordPath("history/"+framework.GenericNameRegex("role")+"/"+framework.GenericNameRegex("id"), "role-history-record", roleHistory, b.historyOf(roles.Prefix, "role"))
}

func (b *backend) pathConnectionHistoryRecord() *framework.Path {
	return recordPath("connections/"+framework.GenericNameRegex("name")+"/history/"+framework.GenericNameRegex("id"), "connection-history-record", connectionHistory, b.historyOf(roles.ConnectionPrefix, "name"))
}

func (b *backend) pathConfigHistoryRecord() *framework.Path {
	return recordPath("config/history/"+framework.GenericNameRegex("id"), "configuration-history-record", configurationHistory, b.configHistory)
}

// recordPath is one entry of a history.
func recordPath(pattern, suffix string, c chronicle, find historian) *framework.Path {
	fields := map[string]*framework.FieldSchema{
		"id":     nameField("The rotation_id of the operation."),
		"format": {Type: framework.TypeString, Default: "json", Query: true, Description: "json; or markdown, which returns the record as a document for people."},
	}
	c.addName(fields)
	return &framework.Path{
		Pattern:      pattern,
		DisplayAttrs: attributes("", suffix),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: operation(recordRead(find), "Read one record in the history of "+c.of+".", recordFields()),
		},
		HelpSynopsis:    "Read one record in the history of " + c.of + ".",
		HelpDescription: oneLine(recordHelp),
	}
}

// recordFields declares a record, in either format.
func recordFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"rotation_id": field(framework.TypeString, "Id of the operation, of whatever kind it is."),
		"kind": field(framework.TypeString, oneLine(`What the operation did. create: made the first value of a secret. import: took over a value. rotate: made new values. rollback: made the previous values current again. retire: ended an overlap.
			repair: set a stored value again. move: changed the address that creds returns. follow: published and ran checks after a rotation or rollback.
			publish: published to a destination later. delete: deleted a secret, the role or the connection. configure: changed settings. note: added a text of a person to a record. prune: dropped old entries of the history.`)),
		"trigger": field(framework.TypeString, oneLine(`What started the operation. manual: a request. schedule: the engine, because it was due. recovery: the engine, to finish what a crash or a fault had
			interrupted. check: a required check or destination had failed. connection: the address of a connection was changed. drift: a server refused a stored value.`)),
		"actor":            field(framework.TypeMap, "Who made the request: display_name and entity_id of the token; empty if the engine started the operation."),
		"reason":           field(framework.TypeString, "The reason that the request gave."),
		"vault_request_id": field(framework.TypeString, "Id of the request, as in the audit log of Vault; empty if the engine started the operation, and in the record of kind retire that a request with revoke_previous causes."),
		"started":          field(framework.TypeString, "When the operation started."),
		"secrets":          field(framework.TypeStringSlice, "Names of the secrets that took part."),
		"revoke_previous":  field(framework.TypeBool, "Whether the replaced values were retired at once, without an overlap."),
		"force":            field(framework.TypeBool, "In a record of kind retire: whether the request said to retire the values although somebody needed them."),
		"tasks":            field(framework.TypeSlice, "Checks and destinations. In a record of kind rotate or rollback, those that were planned; in one of kind follow, publish or retire, their results. In one of kind retire, each has finding (refused, accepted or not_shown) and secrets, whose retired values the check sent."),
		"follows":          field(framework.TypeString, "In a record of kind follow: rotation_id of the operation that the tasks belong to. In an automatic rollback: rotation_id of the operation that was rolled back."),
		"failed_tasks":     field(framework.TypeStringSlice, "In an automatic rollback: names of the required checks and destinations that failed, such as check/health."),
		"follows_kind":     field(framework.TypeString, "Kind of the operation that the field follows names."),
		"follows_trigger":  field(framework.TypeString, "Trigger of the operation that the field follows names; empty in a record of an earlier version."),
		"role":             field(framework.TypeString, "Name of the role or connection."),
		"environment":      field(framework.TypeString, "Label of the environment, from config."),
		"outcome":          field(framework.TypeString, "completed; rolled_back, if the engine put changed targets back; or failed."),
		"duration_ms":      field(framework.TypeInt, "Milliseconds from start to end."),
		"version":          field(framework.TypeInt, "Version of the role or connection after the operation."),
		"results":          field(framework.TypeSlice, "For each secret: its versions before and after, and each step with its duration and result. In a record of kind retire, needed_by names who still needed the value that was retired."),
		"issues":           field(framework.TypeStringSlice, "What a person should know, in sentences: what went wrong, what stays after a deletion, which replaced values are refused."),
		"changes":          field(framework.TypeSlice, "In a record of kind configure: each changed field, with its values from and to."),
		"pruned":           field(framework.TypeMap, "In a record of kind prune: entries (how many were dropped), first_sequence and last_sequence, oldest and newest (when the operations of the first and the last of them started), and head_hash, the hash of the last."),
		"note":             field(framework.TypeMap, "In a record of kind note: about, the rotation_id of the record that it is about; its kind, text and ticket."),
		"notes":            field(framework.TypeSlice, "What people have added to this record since, oldest first: rotation_id, display_name, entity_id and started of each note, its kind, text and ticket. Not there if there is none. Each note has an entry of its own in the history, so an export has it there."),
		"next_rotation":    field(framework.TypeString, "When the next automatic rotation was to start, as planned at the time of this record."),
		"sequence":         field(framework.TypeInt, "Number of the entry in the history."),
		"hash":             field(framework.TypeString, "SHA-256 of previous_hash, a newline and canonical."),
		"previous_hash":    field(framework.TypeString, "Hash of the entry before this one."),
		"canonical":        field(framework.TypeString, "The record as JSON, exactly the text that hash covers."),
		"markdown":         field(framework.TypeString, "The record as Markdown; only with format=markdown."),
	}
}

// recordRead corresponds to READ on history/:role/:id.
func recordRead(find historian) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
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
			timeline.Path = req.MountPoint + req.Path
			return &logical.Response{Data: map[string]any{"markdown": timeline.Markdown(recordSubject(r), r.Snapshot().State, check.Latencies)}}, nil
		}
		found, err := r.Find(ctx, d.Get("id").(string))
		if err != nil || found == nil {
			return nil, err
		}
		data, err := audit.Fields(found.Entry)
		if err == nil && len(found.Notes) > 0 {
			data["notes"] = audit.NoteFields(found.Notes)
		}
		return &logical.Response{Data: data}, err
	}
}

// recordSubject names in a record what r is.
func recordSubject(r *rotation.Role) string {
	switch {
	case r.Key == settings.Key:
		return "Configuration"
	case roles.IsConnection(r):
		return "Connection"
	}
	return "Role"
}

const recordHelp = `
Returns who did what, when, for how long and why; the versions and steps of each secret;
what the engine proved; and what went wrong. With format=markdown, returns this as a
document for auditors, with what happened since: the checks after the commit, a
rollback, and whether the replaced values were retired. Both have the notes that people
have added.`

// The longest texts of a note, in bytes.
const (
	maxNote   = 2048
	maxTicket = 256
)

// noteKinds are the lines of the record that notes are for.
var noteKinds = []any{string(rotation.NoteResolution), string(rotation.NoteNextStep), string(rotation.NoteResponsible), string(rotation.NoteProcedures), string(rotation.NoteTraining)}

func (b *backend) pathHistoryNote() *framework.Path {
	return b.notePath(b.pathHistoryRecord(), "role-history-note", roleHistory, b.historyOf(roles.Prefix, "role"))
}

func (b *backend) pathConnectionHistoryNote() *framework.Path {
	return b.notePath(b.pathConnectionHistoryRecord(), "connection-history-note", connectionHistory, b.historyOf(roles.ConnectionPrefix, "name"))
}

func (b *backend) pathConfigHistoryNote() *framework.Path {
	return b.notePath(b.pathConfigHistoryRecord(), "configuration-history-note", configurationHistory, b.configHistory)
}

// notePath is where people add notes to a record.
func (b *backend) notePath(record *framework.Path, suffix string, c chronicle, find historian) *framework.Path {
	fields := map[string]*framework.FieldSchema{
		"id":     nameField("The rotation_id of the record that the note is about."),
		"text":   field(framework.TypeString, "What you want to add, in one line of at most 2048 bytes. Do not put secrets into it: the engine refuses the text only if one of its words is a stored value that the engine made, of 16 characters or more."),
		"ticket": field(framework.TypeString, "Where there is more about it, such as a number or an address in your ticket system; at most 256 bytes."),
		"kind": {Type: framework.TypeString, Default: noteKinds[0], AllowedValues: noteKinds, Description: oneLine(`Where the record in Markdown shows the note. resolution: in Issues and Resolutions.
			next_step: in Next Steps. responsible, procedures and training: in the lines Responsible, Update rotation procedures, and Team training of Next Steps.`)},
	}
	c.addName(fields)
	return &framework.Path{
		Pattern:      record.Pattern + "/note",
		DisplayAttrs: attributes("add", suffix),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.noteWrite(find), "Add a note to a record in the history of "+c.of+".", nil),
		},
		HelpSynopsis:    "Add a note to a record in the history of " + c.of + ".",
		HelpDescription: oneLine(noteHelp),
	}
}

// noteWrite corresponds to UPDATE on history/:role/:id/note.
func (b *backend) noteWrite(find historian) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		note, err := takeNote(d)
		if err != nil {
			return nil, err
		}
		r, err := find(ctx, d)
		if err != nil {
			return nil, err
		}
		rec := b.writtenRecord(req, rotation.KindNote)
		rec.Note = note
		return nil, r.Annotate(ctx, rec, func() error { return b.quotesNothing(r, rec) })
	}
}

// quotesNothing refuses a note with a value of the role in it that nobody can have guessed.
// The log has who wrote it: others may have seen the value there.
func (b *backend) quotesNothing(r *rotation.Role, rec *rotation.Record) error {
	for name, text := range map[string]string{"text": rec.Note.Text, "ticket": rec.Note.Ticket} {
		if quoted := secret.Quoted(b.types, r.Snapshot().State, text); quoted != "" {
			b.log().Warn("a note was refused, because a value of a secret was in it", "subject", r.Key, "secret", quoted,
				"entity_id", rec.Actor.EntityID, "display_name", rec.Actor.DisplayName)
			return rotation.Invalid(name, "contains a value of secret %s: leave it out. If others have seen it here, rotate the secret", quoted)
		}
	}
	return nil
}

// takeNote reads what a person has written about a record.
func takeNote(d *framework.FieldData) (*rotation.Note, error) {
	text, err := takeLine(d, "text", maxNote)
	if err != nil {
		return nil, err
	}
	ticket, err := takeLine(d, "ticket", maxTicket)
	if err != nil {
		return nil, err
	}
	kind := d.Get("kind").(string)
	if !slices.Contains(noteKinds, any(kind)) {
		return nil, rotation.Invalid("kind", "is %q; it must be one of %v", kind, noteKinds)
	}
	if audit.Visible(text) == "" {
		return nil, rotation.Invalid("text", "is missing: say in one line what you want to add to the record")
	}
	return &rotation.Note{About: d.Get("id").(string), Kind: rotation.NoteKind(kind), Text: text, Ticket: ticket}, nil
}

const noteHelp = `
Adds to the history what people did, decided or plan about a recorded operation, such as
how an issue was resolved or who is responsible for the next rotation. The note is an
entry of its own, of kind note, with who wrote it and when. Like every entry it is part of
the chain of hashes, so chain_valid shows if somebody changes or removes it. Nothing else
changes, and no event is sent. You can add a note while a rotation runs, and after the
role or connection was deleted. To correct a note, add another one. If you add the same
note again, nothing changes. A record can have 50 notes; once
the history has 1000, 5.`
