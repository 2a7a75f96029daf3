package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// QuoteName returns name as an SQL identifier: Robert"; DROP ROLE x;-- becomes
// "Robert""; DROP ROLE x;--".
func QuoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

// QuoteLiteral returns text as an SQL literal that means the same whatever
// standard_conforming_strings is.
func QuoteLiteral(text string) string {
	if strings.Contains(text, `\`) {
		return ` E'` + literalBody(text) + `'`
	}
	return `'` + literalBody(text) + `'`
}

// literalBody is what stands between the quotes of a literal.
func literalBody(text string) string { return inLiteral.Replace(text) }

// inLiteral is made once, because making it takes half a megabyte in a transaction.
var inLiteral = strings.NewReplacer(`'`, `''`, `\`, `\\`, "\x00", "")
