package postgres

import "testing"

func TestQuoteLiteral(t *testing.T) {
	for text, want := range map[string]string{
		``: `''`, `a`: `'a'`, `it's`: `'it''s'`, `a\b`: ` E'a\\b'`, `\'; DROP`: ` E'\\''; DROP'`,
	} {
		if got := QuoteLiteral(text); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}
