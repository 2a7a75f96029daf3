package backend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestStatementsTellNoData has statements that fail on the number of a card, and looks
// for it wherever the engine speaks: answer, history, record, status, verify, metrics,
// log.
func TestStatementsTellNoData(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	table, user := unique("cards"), s.user()
	s.sql("CREATE TABLE %s (number text); INSERT INTO %s VALUES ('4111111111111111'); GRANT SELECT ON %s TO %s, %s", table, table, table, user, s.admin)
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", user))
	for _, statement := range []string{
		"SELECT number::int FROM " + table,
		"DO $$ BEGIN RAISE '%', (SELECT number FROM " + table + ") USING ERRCODE = '42501'; END $$",
		"DO $$ BEGIN RAISE '%', (SELECT number FROM " + table + ") USING ERRCODE = '41111'; END $$",
	} {
		for _, field := range []string{"verification_statements", "rotation_statements"} {
			m.write("secrets/r/db", d(field, []any{}))
			statements := []any{statement}
			if field == "rotation_statements" {
				statements = []any{"ALTER ROLE {{name}} PASSWORD {{password}}", statement}
			}
			var said []string
			note := func(resp *logical.Response, err error) { said = append(said, fmt.Sprint(resp, err)) }
			note(m.try(logical.UpdateOperation, "secrets/r/db", d(field, statements)))
			note(m.try(logical.UpdateOperation, "rotate/r", d("dry_run", true)))
			note(m.try(logical.UpdateOperation, "rotate/r", nil))
			note(m.try(logical.ReadOperation, "verify/r", nil))
			note(m.try(logical.ReadOperation, "status/r", nil))
			note(m.try(logical.ReadOperation, "history/r", nil))
			for _, id := range m.list("history/r") {
				note(m.try(logical.ReadOperation, "history/r/"+id, d("format", "markdown")))
				note(m.try(logical.ReadOperation, "history/r/"+id, nil))
			}
			said = append(said, m.scrape(), m.said.text())
			all := strings.Join(said, "\n")
			for _, word := range []string{"41111111", "SQLSTATE 41111"} {
				if strings.Contains(all, word) {
					t.Errorf("%s: %s shows data:\n%s", field, statement, around(all, word))
				}
			}
			if !strings.Contains(all, "statement 1") && !strings.Contains(all, "statement 2") {
				t.Errorf("%s: %s is not told", field, statement)
			}
			m.write("secrets/r/db", d(field, []any{}))
		}
	}
}

// around is what stands around a word in a text.
func around(text, word string) string {
	at := strings.Index(text, word)
	return text[max(0, at-200):min(len(text), at+100)]
}
