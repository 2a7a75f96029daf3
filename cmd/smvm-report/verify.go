package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/model"
)

// wellNamed is what names of roles, and of what else has a history, look like.
var wellNamed = regexp.MustCompile(`^[\w.-]+$`)

// verifyFile verifies an exported history, and says from where to where it is whole. It
// begins with entry 1, or behind what an entry of kind prune in it says was dropped.
// Only head, the newest hash as the engine reports it, tells whether entries are
// missing at the end: one answer of the engine has at most a thousand. Whoever wrote the
// file may have chosen its name and every text in it, so these are quoted: none can write
// to the terminal what this program did not find.
func verifyFile(path, head string, out io.Writer) error {
	file, err := os.Open(path) //nolint:gosec // the user's own
	if err != nil {
		return fmt.Errorf("open export %q: %w", path, unnamed(err))
	}
	defer file.Close() //nolint:errcheck // read only
	var c model.Chain
	name, drops := "", []string{}
	err = model.Scan(file, func(e rotation.Entry, rec rotation.Record) error {
		if c.First > 0 && rec.Role != name {
			return fmt.Errorf("entry %d belongs to the history of %s, but the entries before it belong to %s: export each history to its own file", e.Sequence, shown(rec.Role), shown(name))
		}
		name = rec.Role
		if rec.Pruned != nil {
			drops = append(drops, fmt.Sprintf("entry %d: %s", e.Sequence, rec.Pruned))
		}
		return c.Add(e, rec)
	})
	switch {
	case err != nil:
		return fmt.Errorf("verify %q: %w", path, unnamed(err))
	case c.First == 0:
		return fmt.Errorf("verify %q: there is no entry in it", path)
	case c.Begins() != nil:
		return fmt.Errorf("verify %q: %w. Export the history again from its first entry, without after; if this file is a later part of an export, append it to the part before and verify both as one file", path, c.Begins())
	case head != "" && !model.IsHash(head):
		return fmt.Errorf("-head: %q is no hash, which has 64 hexadecimal digits: give the head_hash itself, not the name of a file", head)
	case head != "" && c.With(head) == 0:
		return fmt.Errorf("verify %q: it ends with entry %d, and no entry in it has the hash %s: newer entries are missing, or the history was replaced. Export the history again, and read until a response is empty", path, c.Last.Sequence, head)
	}
	last, notes := proven(c, head)
	text := fmt.Sprintf("%s: entries %d to %d are intact, and each follows the one before.\nhead_hash %s\n", shown(name), c.First, last, c.Last.Hash)
	if c.Base != "" {
		text += fmt.Sprintf("base_hash %s: older entries are not in the export\n", c.Base)
	}
	for _, drop := range drops {
		text += drop + "\n"
	}
	_, err = io.WriteString(out, text+notes)
	return err
}

// shown is a name as it is printed: quoted, unless it looks like a name.
func shown(name string) string {
	if wellNamed.MatchString(name) {
		return name
	}
	return fmt.Sprintf("%.100q", name)
}

// unnamed is an error about a file without the file's name, which it does not quote.
func unnamed(err error) error {
	if named, ok := errors.AsType[*fs.PathError](err); ok {
		return named.Err
	}
	return err
}

// proven is up to which entry the newest hash that was given proves a history, and says so.
func proven(c model.Chain, head string) (last int, text string) {
	if head == "" {
		return c.Last.Sequence, "This check can't show whether newer entries are missing. Compare head_hash with the head_hash that the engine reports, or pass the engine's with -head.\n"
	}
	last = c.With(head)
	text = fmt.Sprintf("The hash of -head is that of entry %d. It proves the entries up to that.\n", last)
	if last < c.Last.Sequence {
		text += fmt.Sprintf("It does not prove the newer entries, up to entry %d: they are consistent, but anybody could have added them. To prove them too, give the head_hash that the engine reports now, or export again.\n", c.Last.Sequence)
	}
	return last, text
}
