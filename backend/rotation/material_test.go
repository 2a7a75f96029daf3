package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// hidden is a material whose content must not be seen, whatever form it takes.
var hidden = Material{"password": "hunter2"}

// visible reports whether text shows the material, in clear or as numbers.
func visible(text string) bool {
	for _, form := range []string{"hunter2", "68756e74657232", "68756E74657232", "104 117 110 116", "0x68, 0x75, 0x6e", "password"} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

func TestMaterialIsNeverPrinted(t *testing.T) {
	t.Parallel()
	value := Value{Material: hidden}
	secret := Secret{Name: "db", Current: &value, Pending: &value}
	request := Request{Kind: KindImport, Supplied: hidden}
	w := made(t)
	run := w.role.newRun(request)
	w.role.run.Store(run)
	run.pending = map[string]*Value{"db": &value}
	things := map[string]any{
		"itself": hidden, "a pointer": &hidden, "a value": value, "a pointer to a value": &value, "a secret": secret,
		"a state": State{Secrets: map[string]*Secret{"db": &secret}}, "a request": request, "a run": run, "a role": w.role,
		"in a slice": []Material{hidden}, "in a map": map[string]Material{"x": hidden}, "in an any": []any{hidden},
		"in a struct": struct{ M Material }{hidden},
	}
	for name, thing := range things {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%t", "%b", "%o", "%c", "%U", "%e", "%f", "%g", "%z", "%10.3v", "%-50s"} {
			if got := fmt.Sprintf(verb, thing); visible(got) { //nolint:govet // Wrong verbs are the point.
				t.Errorf("%s by %s: %s", name, verb, got)
			}
		}
		if got := fmt.Sprint(thing); visible(got) {
			t.Errorf("%s by Sprint: %s", name, got)
		}
	}
	if got := fmt.Errorf("login with %v: %w", hidden, errors.New("no")).Error(); got != "login with [redacted]: no" {
		t.Error(got)
	}
	if hidden.String() != Redacted || hidden.GoString() != Redacted {
		t.Error("String or GoString")
	}
}

func TestMaterialIsNotLoggedAsText(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("made", "material", hidden, "value", Value{Material: hidden})
	if visible(out.String()) {
		t.Error(out.String())
	}
}

func TestMaterialIsStoredInClear(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(hidden)
	must(t, err)
	var back Material
	must(t, json.Unmarshal(raw, &back))
	if !back.Equal(hidden) || back.Equal(Material{}) || back.Equal(nil) {
		t.Errorf("%s", raw)
	}
}
