package preflight

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Statement is one statement of SQL, or one command of psql, for a Fix. One whose
// text is empty may not be told.
type Statement struct {
	text string
	// odd says that a piece has other characters than letters, digits, and plain ones.
	odd bool
	// meta says that it is a command of psql, which ends with its line.
	meta bool
}

// Piece is what goes into a statement for a %s, written so that it is what it is
// whatever it holds.
type Piece struct {
	text string
	odd  bool
}

// unsafe is a piece because of which a statement is withheld.
var unsafe = Piece{}

// Say is a statement of fixed text, which ends without a semicolon and has a %s for
// each of the pieces.
func Say(text fixed, pieces ...Piece) Statement {
	var s Statement
	var b strings.Builder
	parts := strings.Split(string(text), "%s")
	rest := pieces
	for _, part := range parts {
		b.WriteString(part)
		if len(rest) == 0 {
			break
		}
		if rest[0] == unsafe {
			return Statement{}
		}
		s.odd = s.odd || rest[0].odd
		b.WriteString(rest[0].text)
		rest = rest[1:]
	}
	s.text = b.String() + ";"
	return s
}

// Name is the name of a role, database, or whatever else has one.
func Name(name string) Piece {
	return quoted(name, `"`+strings.ReplaceAll(name, `"`, `""`)+`"`)
}

// Names is names in a list.
func Names(names ...string) Piece { return list(Name, names) }

// Literal is a text that means the same whatever standard_conforming_strings is.
func Literal(text string) Piece { return quoted(text, literal(text)) }

func literal(text string) string {
	body := strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(text)
	if strings.Contains(text, `\`) {
		return ` E'` + body + `'`
	}
	return `'` + body + `'`
}

// Literals is texts in a list.
func Literals(texts ...string) Piece { return list(Literal, texts) }

func list(one func(string) Piece, texts []string) Piece {
	var all []string
	var odd bool
	for _, text := range texts {
		p := one(text)
		if p == unsafe {
			return unsafe
		}
		all, odd = append(all, p.text), odd || p.odd
	}
	return Piece{text: strings.Join(all, ", "), odd: odd}
}

// Number is a number.
func Number(n int) Piece { return Piece{text: strconv.Itoa(n)} }

// Words is text of this program.
func Words(text fixed) Piece { return Piece{text: string(text)} }

// Body is a statement as the body of a function or a DO.
func Body(s Statement) Piece {
	const quote = "$smvm$"
	switch {
	case s.text == "":
		return unsafe
	case strings.Contains(s.text, quote):
		return Piece{text: literal(s.text), odd: s.odd}
	}
	return Piece{text: quote + " " + s.text + " " + quote, odd: s.odd}
}

// Connect is psql's way to another database. psql takes more than a name there: an
// address, with host and options. So of names that may be one nothing is told.
func Connect(database string) Statement { return meta(`\connect`, database) }

// SetPassword is psql's way to give a role a password that nobody sees.
func SetPassword(role string) Statement { return meta(`\password`, role) }

func meta(command fixed, argument string) Statement {
	s := Statement{meta: true}
	if simple(argument) && ascii(argument) {
		s.text = string(command) + ` "` + argument + `"`
	}
	return s
}

// grant is what PostgreSQL makes of a privilege, with every name quoted that has to be.
var grant = func() *regexp.Regexp {
	const name = `(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)`
	const types = `(?:"(?:[^"]|"")+"|[a-z0-9_,. \[\]])*`
	return regexp.MustCompile(`^(?:ALTER DEFAULT PRIVILEGES FOR ROLE ` + name + `(?: IN SCHEMA ` + name + `)? )?` +
		`GRANT [A-Z][A-Z ]*(?: \(` + name + `\))? ON [A-Z][A-Z ]*(?: ` + name + `(?:\.` + name + `)?(?:\(` + types + `\))?| [0-9]+)?` +
		` TO (?:` + name + `|PUBLIC)(?: WITH GRANT OPTION)?;$`)
}()

// Granted is a statement of GRANT that the server has written. It is withheld if it is
// anything else.
func Granted(text string) Statement {
	if !printable(text) || !grant.MatchString(text) {
		return Statement{}
	}
	names := strings.NewReplacer(`"`, "", "(", "", ")", "", ",", "", ";", "", "[", "", "]", "").Replace(text)
	return Statement{text: text, odd: !simple(names) || strings.Contains(text, `""`)}
}

func quoted(text, as string) Piece {
	if !printable(text) {
		return unsafe
	}
	return Piece{text: as, odd: !simple(text)}
}

// printable reports whether a text shows as what it is: no control characters, no
// other line ends, nothing that changes the direction or is not seen.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !visible(r) })
}

// visible reports whether a character shows as what it is. Some letters and marks are
// blank, or nothing at all.
func visible(r rune) bool {
	const brailleBlank = '\u2800'
	return unicode.IsPrint(r) && r != brailleBlank && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// simple reports whether a text has nothing that means something to psql, to
// PostgreSQL or to a shell.
func simple(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) })
}

func plain(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) || strings.ContainsRune(" _-.", r)
}

func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}

// shown returns a text for a terminal, with what does not show escaped.
func shown(text string) string {
	if printable(text) {
		return text
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "?") {
		if visible(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}
