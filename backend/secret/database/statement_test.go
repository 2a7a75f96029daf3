package database

import (
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

const (
	hostile  = `Robert"; DROP ROLE x;--`
	verifier = `SCRAM'"$$x$$`
)

func TestStatements(t *testing.T) {
	const name, password = `"Robert""; DROP ROLE x;--"`, `'SCRAM''"$$x$$'`
	for sql, want := range map[string]string{
		`ALTER ROLE {{name}} PASSWORD {{password}}`:                 `ALTER ROLE ` + name + ` PASSWORD ` + password,
		`ALTER ROLE "{{username}}" PASSWORD '{{password}}'`:         `ALTER ROLE ` + name + ` PASSWORD ` + password,
		`SELECT s.set('{{name}}','{{password}}');`:                  `SELECT s.set('Robert"; DROP ROLE x;--',` + password + `);`,
		`SELECT f({{password}})--it's {fine}`:                       `SELECT f(` + password + `)--it's {fine}`,
		`/* a /* b */ ' */ SELECT {{password}}`:                     `/* a /* b */ ' */ SELECT ` + password,
		`SELECT $x$ ' $$ $x$, E'\'', U&"d!0061t" , {{password}}`:    `SELECT $x$ ' $$ $x$, E'\'', U&"d!0061t" , ` + password,
		`SELECT "a""b", 'c''d', $1, 1.5, 'é', "é", é, {{password}}`: `SELECT "a""b", 'c''d', $1, 1.5, 'é', "é", é, ` + password,
	} {
		s, err := parseStatement(sql)
		if err != nil || s.fill(hostile, verifier) != want || !s.sets() {
			t.Errorf("%s: got %s (%v), want %s", sql, s.fill(hostile, verifier), err, want)
		}
	}
}

func TestStatementsRefused(t *testing.T) {
	for _, sql := range []string{
		`ALTER ROLE x PASSWORD 'x{{password}}'`, `ALTER ROLE x PASSWORD ' {{password}}'`, `ALTER ROLE "a_{{name}}"`,
		`ALTER ROLE "{{password}}"`, `SELECT E'{{password}}'`, `SELECT U&'{{password}}'`, `SELECT U&"{{name}}"`, `SELECT N'{{password}}'`,
		`SELECT $${{password}}$$`, `DO $x$ BEGIN PERFORM f({{password}}); END $x$`, `SELECT 1 -- {{password}}`, `SELECT 1 /* {{password}} */`,
		`SELECT {{name}}_x`, `SELECT x{{name}}`, `SELECT {{name}}{{password}}`, `SELECT '{{name}}''{{password}}'`, `SELECT 'a'{{password}}`,
		`SELECT {{unknown}}`, `SELECT {{ name }}`, `SELECT {{`, `SELECT {{name}`, `SELECT '{{password}}`, `SELECT "{{name}}`,
		`SELECT E'abc\' , {{password}}`, `SELECT e'abc\' {{password}}`, `SELECT $$ {{password}}`, `SELECT /* {{password}}`, `SELECT {{name}}"x"`,
		"SELECT -- x\r ' \n {{password}} --'",
		`BEGIN`, ` commit `, "-- x\nROLLBACK", `/* x */ end`, `PREPARE TRANSACTION 'x'`, `savepoint x`, `Start transaction`, `ABORT`, `release x`,
		`;COMMIT`, `/* x */ ;; -- y
;end`,
	} {
		if s, err := parseStatement(sql); err == nil {
			t.Errorf("%s: became %s", sql, s.fill(hostile, verifier))
		} else if strings.Contains(err.Error(), "abc") {
			t.Errorf("%v quotes the statement", err)
		}
	}
}

// FuzzStatement checks that no value can change the structure of a statement:
// with the values in place it has the same tokens, one for each placeholder.
func FuzzStatement(f *testing.F) {
	for _, seed := range []string{
		`ALTER ROLE "{{name}}" WITH PASSWORD '{{password}}'`, `SELECT $a${{name}}$a$, E'\'' || {{password}} -- x`,
		`/* /* */ {{name}}`, `U&"{{name}}" '' "" {{password}}{{name}}`, "é{{name}} 1.5 $1 \r\n'{{username}}'::text",
	} {
		f.Add(seed, hostile, verifier)
	}
	f.Fuzz(func(t *testing.T, sql, username, password string) {
		if input.CheckText("", sql, maxStatementBytes) != nil || postgres.CheckName("", username) != nil || input.CheckText("", password, 1024) != nil {
			return
		}
		s, err := parseStatement(sql)
		if err != nil {
			return
		}
		want := len(s.holes)
		for _, text := range s.texts {
			want += countTokens(t, text)
		}
		got := countTokens(t, s.fill(username, password))
		if strings.Contains(username+password, `\`) { // ` E'…'` has a space in front
			got = countTokens(t, s.fill(strings.ReplaceAll(username, `\`, `/`), strings.ReplaceAll(password, `\`, `/`)))
		}
		if got != want {
			t.Errorf("%q became %q: %d tokens, want %d", sql, s.fill(username, password), got, want)
		}
	})
}

func countTokens(t *testing.T, sql string) (n int) {
	t.Helper()
	for sql != "" {
		piece, err := nextPiece(sql)
		if err != nil {
			t.Fatalf("%q: %v", sql, err)
		}
		sql = sql[len(piece):]
		n++
	}
	return n
}
