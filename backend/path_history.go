package backend

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathHistory() *framework.Path {
	return historyPath("history/"+framework.GenericNameRegex("role")+"/?$", "role-history", "role", b.historyOf(roles.Prefix, "role"))
}

func (b *backend) pathConnectionHistory() *framework.Path {
	return historyPath("connections/"+framework.GenericNameRegex("name")+"/history/?$", "connection-history", "name", b.historyOf(roles.ConnectionPrefix, "name"))
}

func (b *backend) pathConfigHistory() *framework.Path {
	return historyPath("config/history/?$", "configuration-history", "", b.configHistory)
}

// historian finds what a request wants to know the history of.
type historian func(context.Context, *framework.FieldData) (*rotation.Role, error)

// historyOf finds the role or connection that the field nameOf names.
func (b *backend) historyOf(prefix, nameOf string) historian {
	return func(ctx context.Context, d *framework.FieldData) (*rotation.Role, error) {
		return b.findHistory(ctx, prefix, d.Get(nameOf).(string))
	}
}

// configHistory finds the configuration of the mount.
func (b *backend) configHistory(ctx context.Context, _ *framework.FieldData) (*rotation.Role, error) {
	return b.settings.History(ctx)
}

// historyPath is the history of a role, of a connection, or of the configuration,
// which has no name.
func historyPath(pattern, suffix, nameOf string, find historian) *framework.Path {
	return &framework.Path{
		Pattern:      pattern,
		DisplayAttrs: attributes("", suffix),
		Fields:       historyQuery(nameOf),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(historyList(find), "List the operations, oldest first.", listFields()),
			logical.ReadOperation: operation(historyRead(find), "Read the length of the history and whether it is intact; with format=jsonl, its entries.", historyFields()),
		},
		HelpSynopsis:    "Read who did what, when and why.",
		HelpDescription: oneLine(historyHelp),
	}
}

func historyQuery(nameOf string) map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{
		"format": {Type: framework.TypeString, Default: "json", Query: true, Description: "json; or jsonl, which answers the entries, oldest first, each as one line of JSON with the fields of history/:role/:id."},
		"after":  {Type: framework.TypeInt, Query: true, Description: "With jsonl: answer the entries after this sequence number; from the oldest one by default."},
		"limit":  {Type: framework.TypeInt, Default: audit.MaxLines, Query: true, Description: "With jsonl: number of lines, at most 1000. There may be fewer. The export is complete when an answer has none."},
	}
	if nameOf != "" {
		fields[nameOf] = nameField("Whose history.")
	}
	return fields
}

func historyFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"count":       field(framework.TypeInt, "Number of entries ever written."),
		"kept":        field(framework.TypeInt, "Number of entries kept. history_retention or history_max_age dropped older ones; an entry of kind prune says which."),
		"head_hash":   field(framework.TypeString, "Hash of the newest entry. It covers all entries before it."),
		"base_hash":   field(framework.TypeString, "Hash of the newest dropped entry; empty if none was."),
		"chain_valid": field(framework.TypeBool, "true if nobody changed, removed or reordered an entry."),
		"problem":     field(framework.TypeString, "The first error, if chain_valid is false."),
	}
}

// findHistory returns a role or connection even when it was deleted: its history
// remains.
func (b *backend) findHistory(ctx context.Context, prefix, name string) (*rotation.Role, error) {
	r, err := b.registry.Get(ctx, prefix, name)
	if err != nil {
		return nil, err
	}
	if r == nil || (r.Snapshot().Deleted && r.Snapshot().History.Count == 0) {
		what := strings.TrimSuffix(prefix, "/")
		return nil, rotation.Invalid(what, "unknown %s: %q; there is: %s", what, name, b.registry.Existing(ctx, prefix))
	}
	return r, nil
}

// export is a part of a history, to be read as JSON Lines.
type export struct{ after, limit int }

// takeExport reads which entries are asked for; nil if none are.
func takeExport(d *framework.FieldData) (*export, error) {
	switch format := d.Get("format").(string); format {
	case "json":
		for _, name := range []string{"after", "limit"} {
			if _, given := d.GetOk(name); given {
				return nil, rotation.Invalid(name, "is for format=jsonl only")
			}
		}
		return nil, nil
	case "jsonl":
	default:
		return nil, rotation.Invalid("format", "is %q; it must be json or jsonl", format)
	}
	e := &export{after: d.Get("after").(int), limit: d.Get("limit").(int)}
	if e.after < 0 {
		return nil, rotation.Invalid("after", "is %d; it must be the sequence number of an entry, or 0", e.after)
	}
	if e.limit < 1 || e.limit > audit.MaxLines {
		return nil, rotation.Invalid("limit", "is %d; it must be from 1 to %d", e.limit, audit.MaxLines)
	}
	return e, nil
}

// historyRead corresponds to READ on history/:role.
func historyRead(find historian) framework.OperationFunc {
	return func(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		export, err := takeExport(d)
		if err != nil {
			return nil, err
		}
		r, err := find(ctx, d)
		if err != nil {
			return nil, err
		}
		if export != nil {
			text, err := audit.Export(ctx, r, export.after, export.limit)
			return textResponse("application/x-ndjson", text), err
		}
		h, entries, err := r.Entries(ctx)
		if err != nil {
			return nil, err
		}
		data := map[string]any{
			"count": h.Count, "kept": len(entries), "head_hash": h.Head, "base_hash": h.BaseHash, "chain_valid": true,
		}
		if err := h.VerifyChain(entries); err != nil {
			data["chain_valid"], data["problem"] = false, err.Error()
		}
		return &logical.Response{Data: data}, nil
	}
}

// historyList corresponds to LIST on history/:role.
func historyList(find historian) framework.OperationFunc {
	return func(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		if export, err := takeExport(d); err != nil || export != nil {
			return nil, cmp.Or(err, rotation.Invalid("format", "is jsonl, which is for reading, not for listing"))
		}
		r, err := find(ctx, d)
		if err != nil {
			return nil, err
		}
		_, entries, err := r.Entries(ctx)
		if err != nil {
			return nil, err
		}
		ids, info := make([]string, 0, len(entries)), map[string]any{}
		for _, e := range entries {
			rec, err := e.Decode()
			if err != nil {
				return nil, err
			}
			ids = append(ids, rec.ID)
			info[rec.ID] = map[string]any{
				"sequence": e.Sequence, "kind": string(rec.Kind), "outcome": string(rec.Outcome), "trigger": string(rec.Trigger),
				"started": rec.Started.Format(time.RFC3339), "version": rec.Version, "display_name": rec.Actor.DisplayName,
			}
		}
		return listResponse(ids, info), nil
	}
}

const historyHelp = `
Every creation, rotation, rollback, retirement and deletion has an entry, whether it
succeeded or not. So has every change of config, and of the policy, destinations, checks
and secrets of a role. Each entry holds the hash of the one before, and the role's state
holds the newest hash. So chain_valid says whether anybody changed, removed or reordered
an entry. Vault's log has the same hashes. When history_retention or history_max_age
drops old entries, an entry of kind prune says which, and the hash of the last one. The
history of a deleted role stays. format=jsonl answers the entries as text, to keep and
verify elsewhere: read again with after= the sequence of the last line, until the answer
is empty.`
