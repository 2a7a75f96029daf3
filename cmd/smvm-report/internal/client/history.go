package client

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/model"
)

// history reads the export of a history to its end, and checks it on the way:
// against itself, and against what the engine says of it.
func (v *vault) history(ctx context.Context, path string, s *model.Subject, since time.Time) error {
	var head struct {
		Count   int    `json:"count"`
		Head    string `json:"head_hash"`
		Valid   bool   `json:"chain_valid"`
		Problem string `json:"problem"`
	}
	if err := v.read(ctx, path, &head); err != nil {
		return err
	}
	s.Entries, s.Problem = head.Count, head.Problem
	var c model.Chain
	err := v.export(ctx, path, func(e rotation.Entry, rec rotation.Record) error {
		if err := c.Add(e, rec); err != nil && s.Problem == "" {
			s.Problem = err.Error()
		}
		if e.Sequence == head.Count && e.Hash != head.Head && s.Problem == "" {
			s.Problem = fmt.Sprintf("the hash of entry %d is not the head_hash that the engine reports", e.Sequence)
		}
		s.Add(rec, since)
		return nil
	})
	if err == nil && c.Last.Sequence < head.Count && s.Problem == "" {
		s.Problem = fmt.Sprintf("entry %d is missing", c.Last.Sequence+1)
	}
	if begins := c.Begins(); err == nil && begins != nil && s.Problem == "" {
		s.Problem = begins.Error()
	}
	return err
}

// export reads a history as JSON Lines, a part at a time.
func (v *vault) export(ctx context.Context, path string, found func(rotation.Entry, rotation.Record) error) error {
	for after, read := 0, 1; read > 0; {
		read = 0
		query := url.Values{"format": {"jsonl"}, "after": {strconv.Itoa(after)}}
		resp, err := v.client.Logical().ReadRawWithDataWithContext(ctx, v.mount+"/"+path, query)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		err = model.Scan(resp.Body, func(e rotation.Entry, rec rotation.Record) error {
			after, read = e.Sequence, read+1
			return found(e, rec)
		})
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	return nil
}
