package backend

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathHistory() *framework.Path {
	return historyPath("history/"+framework.GenericNameRegex("role")+"/?$", "role-history", roleHistory, b.historyOf(roles.Prefix, "role"))
}

func (b *backend) pathHistoryList() *framework.Path {
	return &framework.Path{
		Pattern:      "history/?$",
		DisplayAttrs: attributes("list", "role-histories"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathHistoryListRead, "List the roles that have a history, deleted ones too.", listFields()),
		},
		HelpSynopsis:    "List the roles that have a history.",
		HelpDescription: "Lists the names of all roles that have a history, deleted ones too, each with deleted and count, the number of entries that were ever written.",
	}
}

// pathHistoryListRead corresponds to LIST on history. A deleted role keeps its state,
// and what keeps none, or one that can't be read, is listed with the reason.
func (b *backend) pathHistoryListRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	stored, err := b.store.List(ctx, roles.Prefix)
	if err != nil {
		return nil, err
	}
	past, err := b.store.List(ctx, historyPrefix+roles.Prefix)
	if err != nil {
		return nil, err
	}
	for _, name := range past {
		stored = append(stored, strings.TrimSuffix(name, "/"))
	}
	slices.Sort(stored)
	var names []string
	info := map[string]any{}
	for _, name := range slices.Compact(stored) {
		r, err := b.registry.Get(ctx, roles.Prefix, name)
		switch {
		case err != nil:
			info[name] = map[string]any{"error": err.Error()}
		case r == nil:
			info[name] = map[string]any{"error": "storage has entries of this history, but not role/" + name}
		case r.Snapshot().History.Count == 0:
			continue
		default:
			info[name] = map[string]any{"deleted": r.Snapshot().Deleted, "count": r.Snapshot().History.Count}
		}
		names = append(names, name)
	}
	return listResponse(names, info), nil
}

func (b *backend) pathConnectionHistory() *framework.Path {
	return historyPath("connections/"+framework.GenericNameRegex("name")+"/history/?$", "connection-history", connectionHistory, b.historyOf(roles.ConnectionPrefix, "name"))
}

func (b *backend) pathConfigHistory() *framework.Path {
	return historyPath("config/history/?$", "configuration-history", configurationHistory, b.configHistory)
}

// chronicle is what the help says of one kind of history.
type chronicle struct {
	// nameOf is the field with the name of what the history is of, empty if that has none,
	// and of is what that is.
	nameOf, of string
	// entries says what has an entry, and ends what becomes of old ones.
	entries, ends string
}

var (
	roleHistory = chronicle{
		nameOf: "role", of: "a role",
		entries: `The history of a role has an entry for each operation, such as a rotation, a rollback or the retirement of
			previous values, whether it succeeded or not. It also has one for each change of the role, its checks and its secrets.`,
		ends: pruned + " When you delete the role, its history stays, and listing history shows its name.",
	}
	connectionHistory = chronicle{
		nameOf: "name", of: "a connection",
		entries: `The history of a connection has an entry for each write of the connection, and for each operation on the
			administrator's password, such as a rotation, whether it succeeded or not.`,
		ends: pruned + " When you delete the connection, its history stays.",
	}
	configurationHistory = chronicle{
		of:      "the configuration of the mount",
		entries: "The history of config has an entry for each change, with the values before and after.",
		ends:    "The engine never drops entries of this history.",
	}
)

const pruned = `When history_retention or history_max_age of config drops old entries, an entry of kind prune says which, and has
	the hash of the last one.`

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

// historyPath is the history of a role, of a connection, or of the configuration.
func historyPath(pattern, suffix string, c chronicle, find historian) *framework.Path {
	return &framework.Path{
		Pattern:      pattern,
		DisplayAttrs: attributes("", suffix),
		Fields:       historyQuery(c),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(historyList(find), "List the operations in the history of "+c.of+", oldest first. `vault list -detailed` sorts them by id, and so by their start; sequence has the order in which they were recorded.", listFields()),
			logical.ReadOperation: operation(historyRead(find), "Read how long the history of "+c.of+" is and whether it is intact; with format=jsonl, read its entries.", historyFields()),
		},
		HelpSynopsis:    "Read the history of " + c.of + ": who did what, when and why.",
		HelpDescription: oneLine(c.entries + historyHelp + c.ends + exportHelp),
	}
}

func historyQuery(c chronicle) map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{
		"format": {Type: framework.TypeString, Default: "json", Query: true, Description: "json; or jsonl, which returns the entries, oldest first, each as one line of JSON with the fields of history/:role/:id."},
		"after":  {Type: framework.TypeInt, Query: true, Description: "With format=jsonl: return the entries after this sequence number; from the oldest one by default."},
		"limit":  {Type: framework.TypeInt, Default: audit.MaxLines, Query: true, Description: "With format=jsonl: how many lines to return, at most 1000. There may be fewer. The export is complete when a response has none."},
	}
	c.addName(fields)
	return fields
}

// addName adds the field with the name of what the history is of.
func (c chronicle) addName(fields map[string]*framework.FieldSchema) {
	if c.nameOf != "" {
		fields[c.nameOf] = nameField("Name of the " + strings.TrimPrefix(c.of, "a ") + ".")
	}
}

func historyFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"count":       field(framework.TypeInt, "Number of entries that were ever written."),
		"kept":        field(framework.TypeInt, "Number of entries that are still there. If history_retention or history_max_age of config dropped older ones, an entry of kind prune says which."),
		"head_hash":   field(framework.TypeString, "Hash of the newest entry. It covers all entries before it."),
		"base_hash":   field(framework.TypeString, "Hash of the newest entry that was dropped; the oldest remaining entry begins with it as its previous_hash. Empty if no entry was dropped."),
		"chain_valid": field(framework.TypeBool, "true if nobody changed, removed or reordered an entry."),
		"problem":     field(framework.TypeString, "What is wrong, if chain_valid is false: the first error that was found."),
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
Notes that people add to records have entries too. Each entry holds the hash of the entry before it, and the engine stores the newest hash
apart from the entries. chain_valid is true if all hashes match, that is, if nobody has
changed, removed or reordered an entry. The engine also writes each hash to the log of
the Vault server. `

const exportHelp = `
With format=jsonl, the response is text, with the entries to keep and verify elsewhere. To
read the next part, set after to the sequence of the last line. The export is complete
when a response is empty.`
