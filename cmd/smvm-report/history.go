package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// history reads the export of a history to its end, and checks it on the way:
// against itself, and against what the engine says of it.
func (v *vault) history(ctx context.Context, path string, s *subject, since time.Time) error {
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
	var c chain
	err := v.export(ctx, path, func(e rotation.Entry, rec rotation.Record) error {
		err := c.add(e)
		if err == nil && rec.Pruned != nil {
			err = c.pruned(e, rec.Pruned)
		}
		if err != nil && s.Problem == "" {
			s.Problem = err.Error()
		}
		if e.Sequence == head.Count && e.Hash != head.Head && s.Problem == "" {
			s.Problem = fmt.Sprintf("entry %d is not the one that the engine names", e.Sequence)
		}
		c.last = e
		s.note(rec, since)
		return nil
	})
	if err == nil && c.last.Sequence < head.Count && s.Problem == "" {
		s.Problem = fmt.Sprintf("entry %d is missing", c.last.Sequence+1)
	}
	return err
}

// note keeps of a record what the report needs.
func (s *subject) note(rec rotation.Record, since time.Time) {
	s.Kept++
	for _, r := range rec.Results {
		if rec.Outcome == rotation.OutcomeCompleted && r.To != r.From {
			s.Rotated[r.Secret] = s.Rotated[r.Secret] || rec.Kind == rotation.KindRotate
			if s.Values[r.Secret] == nil {
				s.Values[r.Secret] = map[int]rotation.Kind{}
			}
			s.Values[r.Secret][r.To] = rec.Kind
		}
	}
	if rec.Started.After(since) {
		s.Records = append(s.Records, rec)
	}
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
		err = scan(resp.Body, func(e rotation.Entry, rec rotation.Record) error {
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
