package preflight

import (
	"slices"
	"strings"
)

// fixed is text of this program. Nothing but a constant can be given for it, so that
// what others wrote gets into a fix as a Piece only, which is quoted.
type fixed string

// Fix is what to run: statements for psql, or a command of the shell. A person who
// may do everything runs it as it is, and what it names was named by others: the
// owner of a database, a user of it, a server. So it is made here only, of fixed text
// and quoted pieces, and what no quoting makes safe is withheld. The zero Fix is
// nothing to run.
type Fix struct {
	text string
	// apart says that a line of it can't be joined with the next.
	apart bool
	// withheld says that some of it is not told.
	withheld bool
}

// settled is what statements begin with: names mean those of PostgreSQL itself,
// whatever the owner of the database has made sessions begin with. It looks up no
// name itself.
const settled = "SET search_path = pg_catalog, pg_temp;"

// SQL is statements for psql, in this order, each in a line of its own.
func SQL(statements ...Statement) Fix {
	told := safe(statements)
	f := Fix{withheld: len(told) < len(statements)}
	var lines []string
	begun := false
	for _, s := range told {
		if !s.meta && !begun {
			lines = append(lines, settled)
		}
		begun = !s.meta // a connection to another database begins anew
		lines = append(lines, s.text)
		f.apart = f.apart || s.meta
	}
	f.text = strings.Join(lines, "\n")
	return f
}

// safe returns the statements that may be told: none if the way to their database may
// not, or if nothing but that may. Neither is any if a character of another script and a quote or the like are in
// the names: a psql whose client_encoding is not UTF-8 may take the last byte of the
// one together with the quote after it, and then what was quoted is not.
func safe(statements []Statement) []Statement {
	lost := func(s Statement) bool { return s.meta && s.text == "" }
	foreign := func(s Statement) bool { return !ascii(s.text) }
	odd := func(s Statement) bool { return s.odd }
	if slices.ContainsFunc(statements, lost) || slices.ContainsFunc(statements, foreign) && slices.ContainsFunc(statements, odd) {
		return nil
	}
	told := slices.DeleteFunc(slices.Clone(statements), func(s Statement) bool { return s.text == "" })
	if said := func(s Statement) bool { return !s.meta }; slices.ContainsFunc(statements, said) && !slices.ContainsFunc(told, said) {
		return nil
	}
	return told
}

// Command is a command of the shell, of these words.
func Command(words ...string) Fix {
	quoted := make([]string, len(words))
	for i, word := range words {
		if !printable(word) {
			return Fix{withheld: true}
		}
		quoted[i] = shellWord(word)
	}
	return Fix{text: strings.Join(quoted, " ")}
}

// shellWord quotes a word where it has to be.
func shellWord(word string) string {
	special := func(r rune) bool { return !plain(r) && !strings.ContainsRune("/=:,@%+", r) || r == ' ' }
	if word != "" && word[0] != '=' && ascii(word) && !strings.ContainsFunc(word, special) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// String returns what to run, as it is to be copied; empty if there is nothing, or
// nothing that may be told.
func (f Fix) String() string { return f.text }

// longestFix is how much of a fix fits into a line, in bytes.
const longestFix = 400

// Clause tells the fix, or that it is not told, in one line that follows what is wrong.
func (f Fix) Clause() string { return f.note() + f.run() }

// run tells the fix in one line: where it does not fit into one, who tells it. It is
// empty if there is nothing to run.
func (f Fix) run() string {
	switch {
	case f.text == "":
		return ""
	case f.apart || len(f.text) > longestFix:
		return "; verify tells what to run"
	}
	return "; run: " + strings.ReplaceAll(f.text, "\n", " ")
}

// note says that not all of a fix is told, if that is so.
func (f Fix) note() string {
	if !f.withheld {
		return ""
	}
	return "; what mends it is not told in full, because psql, a shell or a terminal might take a name in it for something else: do it by hand"
}
