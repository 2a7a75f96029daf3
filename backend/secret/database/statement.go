package database

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// statement is an SQL text with placeholders, in parts: text as it is, then a
// placeholder, and so on in turn.
type statement struct {
	texts []string
	holes []hole
}

// hole is where a value goes, and how it must be written there.
type hole struct {
	password bool
	literal  bool
}

// fill writes the values into the statement, each quoted for its place. Password
// is what the server is given for one: a verifier, or clear text.
func (s statement) fill(username, password string) string {
	var b strings.Builder
	for i, text := range s.texts {
		b.WriteString(text)
		if i < len(s.holes) {
			b.WriteString(s.holes[i].quoted(username, password))
		}
	}
	return b.String()
}

func (h hole) quoted(username, password string) string {
	switch {
	case h.password:
		return postgres.QuoteLiteral(password)
	case h.literal:
		return postgres.QuoteLiteral(username)
	}
	return postgres.QuoteName(username)
}

// sets reports whether the statement contains the password.
func (s statement) sets() bool {
	for _, h := range s.holes {
		if h.password {
			return true
		}
	}
	return false
}

// token is the next piece of an SQL text that may not be looked into: what is
// quoted or commented out, a word, a number, a placeholder. In what is not
// closed, the closing part is missing from the match.
var token = regexp.MustCompile(`(?s)^(?:` +
	`\{\{[^{}]*\}\}` + // placeholder
	`|(?:[uU]&)?"(?:[^"]|"")*"` + // identifier
	`|[eE]'(?:[^'\\]|\\.|'')*'` + // literal with backslashes
	`|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*'` + // literal
	`|--[^\n\r]*` + // comment
	`|[A-Za-z_0-9$\x{80}-\x{10FFFF}]+` + // word, number, parameter
	`|.)`)

// dollarQuote opens a literal that ends with the same text.
var dollarQuote = regexp.MustCompile(`^\$(?:[A-Za-z_\x{80}-\x{10FFFF}][A-Za-z_0-9\x{80}-\x{10FFFF}]*)?\$`)

// parseStatement takes a statement apart. A placeholder stands for the user name
// ({{username}} or {{name}}) or the password ({{password}}). It may be bare, or
// alone between quotes, which are replaced together with it by the right ones.
// Everywhere else it is an error, because there no quoting would be safe. Errors
// say what is wrong without quoting the statement.
func parseStatement(sql string) (statement, error) {
	if keyword := firstKeyword(sql); controls[keyword] {
		return statement{}, fmt.Errorf("begins with %s: leave it out, because the engine runs the statement in a transaction of its own", keyword)
	}
	var s statement
	var text strings.Builder
	for rest, before := sql, ""; rest != ""; {
		piece, err := nextPiece(rest)
		if err != nil {
			return statement{}, err
		}
		rest = rest[len(piece):]
		if !strings.Contains(piece, "{{") {
			text.WriteString(piece)
			before = piece
			continue
		}
		h, err := parseHole(piece, before, rest)
		if err != nil {
			return statement{}, err
		}
		s.texts, s.holes = append(s.texts, text.String()), append(s.holes, h)
		text.Reset()
		before = piece
	}
	s.texts = append(s.texts, text.String())
	return s, nil
}

// nextPiece returns the first token of sql, which is not empty.
func nextPiece(sql string) (string, error) {
	if open := dollarQuote.FindString(sql); open != "" {
		end := strings.Index(sql[len(open):], open)
		if end < 0 {
			return "", errors.New("has a dollar quote that is not closed")
		}
		return sql[:len(open)+end+len(open)], nil
	}
	if strings.HasPrefix(sql, "/*") {
		return blockComment(sql)
	}
	piece := token.FindString(sql)
	switch piece {
	case "":
		return "", errors.New("is not UTF-8")
	case `"`, `'`:
		return "", errors.New("has a quote that is not closed")
	}
	if strings.HasPrefix(sql, "{{") && piece == "{" {
		return "", errors.New("has {{ without a placeholder")
	}
	if strings.EqualFold(piece, "e") && strings.HasPrefix(sql[1:], "'") {
		return "", errors.New("has a quote that is not closed")
	}
	return piece, nil
}

// blockComment returns the comment that sql begins with; they nest.
func blockComment(sql string) (string, error) {
	depth := 0
	for i := 0; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return sql[:i+1], nil
		}
	}
	return "", errors.New("has a comment that is not closed")
}

var (
	bareHole   = regexp.MustCompile(`^\{\{(username|name|password)\}\}$`)
	quotedHole = regexp.MustCompile(`^(['"])\{\{(username|name|password)\}\}(['"])$`)
	touchedBy  = regexp.MustCompile(`^[A-Za-z0-9_$"'{\x{80}-\x{10FFFF}]`)
	touching   = regexp.MustCompile(`[A-Za-z0-9_$"'}\x{80}-\x{10FFFF}]$`)
)

// parseHole says what the piece with a placeholder stands for. Before and after
// are what surrounds it.
func parseHole(piece, before, after string) (hole, error) {
	if touching.MatchString(before) || touchedBy.MatchString(after) {
		return hole{}, errors.New("has a placeholder that touches other text: put spaces around it")
	}
	if m := bareHole.FindStringSubmatch(piece); m != nil {
		return hole{password: m[1] == "password", literal: m[1] == "password"}, nil
	}
	m := quotedHole.FindStringSubmatch(piece)
	if m == nil {
		return hole{}, errors.New("has an unknown placeholder, or one inside other quoted text or a comment: only {{username}} (or {{name}}) and {{password}} are known, bare or alone between quotes")
	}
	if m[1] == `"` && m[2] == "password" {
		return hole{}, errors.New(`has {{password}} in double quotes, which are for names: use single quotes`)
	}
	return hole{password: m[2] == "password", literal: m[1] == `'`}, nil
}

// controls are the statements that would take a transaction out of the engine's
// hands.
var controls = map[string]bool{
	"BEGIN": true, "START": true, "COMMIT": true, "END": true, "ROLLBACK": true,
	"ABORT": true, "PREPARE": true, "SAVEPOINT": true, "RELEASE": true,
}

// firstKeyword returns the first word of sql in capitals, past any comments and empty
// statements, which PostgreSQL passes over, or "".
func firstKeyword(sql string) string {
	for sql != "" {
		piece, err := nextPiece(sql)
		if err != nil {
			return ""
		}
		sql = sql[len(piece):]
		if strings.Trim(strings.TrimSpace(piece), ";") != "" && !strings.HasPrefix(piece, "--") && !strings.HasPrefix(piece, "/*") {
			return strings.ToUpper(piece)
		}
	}
	return ""
}
