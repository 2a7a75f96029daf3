package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// One answer of an export has at most so many lines, and ends with the line that
// makes it as long as maxExportBytes.
const (
	maxExport      = 1000
	maxExportBytes = 1 << 20
)

// export is a part of a history, to be read as JSON Lines.
type export struct{ after, limit int }

// takeExport reads which entries are asked for; nil if none are.
func takeExport(d *framework.FieldData) (*export, error) {
	switch format := d.Get("format").(string); format {
	case "json":
		for _, name := range []string{"after", "limit"} {
			if _, given := d.GetOk(name); given {
				return nil, invalid(name, "is for format=jsonl only")
			}
		}
		return nil, nil
	case "jsonl":
	default:
		return nil, invalid("format", "is %q; it must be json or jsonl", format)
	}
	e := &export{after: d.Get("after").(int), limit: d.Get("limit").(int)}
	if e.after < 0 {
		return nil, invalid("after", "is %d; it must be the sequence number of an entry, or 0", e.after)
	}
	if e.limit < 1 || e.limit > maxExport {
		return nil, invalid("limit", "is %d; it must be from 1 to %d", e.limit, maxExport)
	}
	return e, nil
}

// answer is text, not JSON: one line for each entry. An entry that is not there
// has no line, which whoever verifies the chain finds out.
func (e *export) answer(ctx context.Context, r *rotation.Role) (*logical.Response, error) {
	text := bytes.NewBuffer([]byte{}) // nil would be no text to Vault, but an error
	encoder, after := json.NewEncoder(text), e.after
	for lines := 0; lines < e.limit && text.Len() < maxExportBytes; lines++ {
		entries, err := r.Since(ctx, after, 1)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		data, err := recordData(entries[0])
		if err != nil {
			return nil, err
		}
		if err := encoder.Encode(data); err != nil {
			return nil, fmt.Errorf("encode history entry %d: %w", entries[0].Sequence, err)
		}
		after = entries[0].Sequence
	}
	return &logical.Response{Data: map[string]any{
		logical.HTTPStatusCode:  http.StatusOK,
		logical.HTTPContentType: "application/x-ndjson",
		logical.HTTPRawBody:     text.Bytes(),
	}}, nil
}
