package backend

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// TestRecordFields compares what is declared of a record with what one has.
func TestRecordFields(t *testing.T) {
	// Those are not the record's own: they belong to its entry, to the other format and to notes.
	has := []string{"sequence", "hash", "previous_hash", "canonical", "markdown", "notes"}
	renamed := map[string]string{"id": "rotation_id", "request_id": "vault_request_id"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[rotation.Record]()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); renamed[name] != "" {
			has = append(has, renamed[name])
		} else if name != "" {
			has = append(has, name)
		}
	}
	slices.Sort(has)
	if declared := slices.Sorted(maps.Keys(recordFields())); !slices.Equal(declared, has) {
		t.Errorf("a record has the fields %v, and declared are %v", has, declared)
	}
}

// TestKindsAndTriggers: the reference says what each kind and trigger of an operation is.
func TestKindsAndTriggers(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "rotation/state.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]string{"Kind": recordFields()["kind"].Description, "Trigger": recordFields()["trigger"].Description}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		of, _ := spec.Type.(*ast.Ident)
		value, _ := spec.Values[0].(*ast.BasicLit)
		if of == nil || value == nil || described[of.Name] == "" {
			return true
		}
		name, err := strconv.Unquote(value.Value)
		if found++; err != nil || !strings.Contains(" "+described[of.Name], " "+name+": ") {
			t.Errorf("the reference does not describe %s %s", of.Name, value.Value)
		}
		return true
	})
	if found < 15 {
		t.Errorf("only %d kinds and triggers were found", found)
	}
}

// TestWayIsDeclared: what creds answers of the way to several hosts is declared.
func TestWayIsDeclared(t *testing.T) {
	way, err := postgres.Settings{Config: postgres.Config{Host: "a,b", Database: "orders"}}.Way()
	if err != nil {
		t.Fatal(err)
	}
	fields := way.Fields()
	if fields["target_session_attrs"] == "" {
		t.Errorf("of several hosts the fields are %v", fields)
	}
	declared := secretTypes{databaseType: database.New(nil, nil)}.credsAnswer()
	for name := range fields {
		if declared[name] == nil {
			t.Errorf("%s is not declared", name)
		}
	}
}
