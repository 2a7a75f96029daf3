package main

import (
	"fmt"
	"io"
	"os"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/model"
)

// verifyFile checks an exported history, and says up to where it is whole.
func verifyFile(path string, out io.Writer) error {
	file, err := os.Open(path) //nolint:gosec // the user's own
	if err != nil {
		return fmt.Errorf("open export: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	var c model.Chain
	name, drops := "", []string{}
	err = model.Scan(file, func(e rotation.Entry, rec rotation.Record) error {
		if c.First > 0 && rec.Role != name {
			return fmt.Errorf("entry %d is of %s, and the entries before it are of %s; export each history to a file of its own", e.Sequence, rec.Role, name)
		}
		name = rec.Role
		if rec.Pruned != nil {
			drops = append(drops, fmt.Sprintf("entry %d: %s", e.Sequence, rec.Pruned))
		}
		return c.Add(e, rec)
	})
	switch {
	case err != nil:
		return fmt.Errorf("verify %s: %w", path, err)
	case c.First == 0:
		return fmt.Errorf("verify %s: there is no entry in it", path)
	}
	_, err = fmt.Fprintf(out, "%s: entries %d to %d are intact, and each follows the one before.\nhead_hash %s\n", name, c.First, c.Last.Sequence, c.Last.Hash)
	if err == nil && c.Base != "" {
		_, err = fmt.Fprintf(out, "base_hash %s: older entries are not in the export\n", c.Base)
	}
	for _, drop := range drops {
		if err == nil {
			_, err = fmt.Fprintln(out, drop)
		}
	}
	return err
}
