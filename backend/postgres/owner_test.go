package postgres

import (
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
)

// TestOwnerMark reads what anybody may have written.
func TestOwnerMark(t *testing.T) {
	us := Owner{Mount: "m", Path: "p/", Role: "r", Secret: "s"}
	line, err := Note{}.Naming(us)
	expect.OK(t, err)
	for comment, want := range map[string]struct {
		owner Owner
		kept  string
	}{
		"":                     {Owner{}, ""},
		line:                   {us, ""},
		"a\n" + line:           {us, "a"},
		"a\n" + line + "\nb\n": {us, "a\nb\n"},
		ownerMark + "nobody":   {Owner{}, ownerMark + "nobody"},
		ownerMark + "{}":       {Owner{}, ownerMark + "{}"},
		"see " + line:          {Owner{}, "see " + line},
		ownerMark + `{"mount":"x"}` + "\n" + line: {us, ""},
	} {
		if owner, kept := splitComment(comment); owner != want.owner || kept != want.kept {
			t.Errorf("%q is of %v and keeps %q", comment, owner, kept)
		}
	}
	for _, n := range []Note{{comment: "x", Writable: false}, {comment: line, Writable: true}} {
		if statement, err := n.name(us); statement != "" || err != nil {
			t.Errorf("%v is written by %q, %v", n, statement, err)
		}
	}
}
