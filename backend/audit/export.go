package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// One export has at most MaxLines lines, and ends with the line that makes it as long
// as MaxBytes.
const (
	MaxLines = 1000
	MaxBytes = 1 << 20
)

// Export returns the entries after that sequence number, at most so many, as JSON
// Lines: one line for each entry. An entry that is not there has no line, which
// whoever verifies the chain finds out.
func Export(ctx context.Context, r History, after, limit int) ([]byte, error) {
	text := bytes.NewBuffer([]byte{}) // nil would be no text to Vault, but an error
	encoder := json.NewEncoder(text)
	for lines := 0; lines < limit && text.Len() < MaxBytes; lines++ {
		entries, err := r.Since(ctx, after, 1)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		data, err := Fields(entries[0])
		if err != nil {
			return nil, err
		}
		if err := encoder.Encode(data); err != nil {
			return nil, fmt.Errorf("encode history entry %d: %w", entries[0].Sequence, err)
		}
		after = entries[0].Sequence
	}
	return text.Bytes(), nil
}

// Fields is an entry as it is answered. The canonical text is what the hash
// covers, after the previous hash and a newline, so that anybody can check it.
func Fields(e rotation.Entry) (map[string]any, error) {
	rec, err := e.Decode()
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	if err := json.Unmarshal(e.Record, &data); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	// The vault command keeps these two names for the request that asks.
	data["rotation_id"], data["vault_request_id"] = rec.ID, rec.RequestID
	delete(data, "id")
	delete(data, "request_id")
	data["sequence"], data["hash"], data["previous_hash"] = e.Sequence, e.Hash, e.PreviousHash
	data["canonical"] = string(e.Record)
	return data, nil
}
