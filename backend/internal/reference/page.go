package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// head is what the page says before it lists the paths.
//
//go:embed head.md
var head string

// operation is one command on a path, and what it does.
type operation struct {
	verb, does string
	*framework.OASOperation
}

// section is what the page says about one path.
type section struct {
	title, synopsis, description string
	parameters                   []framework.OASParameter
	operations                   []operation
}

// page is the whole page.
func (e *engine) page() (string, error) {
	sections, err := e.sections()
	if err != nil {
		return "", err
	}
	var page strings.Builder
	page.WriteString(head)
	for _, s := range sections {
		fmt.Fprintf(&page, "| [`%s`](#%s) | %s | %s |\n", s.title, anchor(s.title), strings.Join(s.verbs(), ", "), cell(s.synopsis))
	}
	for _, s := range sections {
		as, err := e.likewise(s, sections)
		if err != nil {
			return "", err
		}
		e.write(&page, s, as)
	}
	return page.String(), nil
}

// sections are the paths in alphabetical order. A list belongs to the path of what it
// lists, and a path that leaves out the role to the one with it.
func (e *engine) sections() (sections []*section, err error) {
	byPath := map[string]*section{}
	for _, path := range slices.Sorted(maps.Keys(e.document.Paths)) {
		item, home := e.document.Paths[path], e.home(path)
		s := byPath[home]
		if s == nil {
			s = &section{title: e.title(home)}
			byPath[home] = s
			sections = append(sections, s)
		}
		if path == home {
			s.synopsis, s.parameters = item.Description, item.Parameters
			if s.description, err = e.description(strings.TrimPrefix(path, "/")); err != nil {
				return nil, err
			}
		}
		if path == home || strings.HasSuffix(path, "/") {
			s.operations = append(s.operations, operations(path, item)...)
		}
	}
	for _, s := range sections {
		slices.SortStableFunc(s.operations, func(a, b operation) int { return order(a) - order(b) })
	}
	return sections, nil
}

// home is the path whose section a path belongs to. A list of what is a list itself has
// its own.
func (e *engine) home(path string) string {
	if e.document.Paths[path+"/{role}"] != nil {
		return path + "/{role}"
	}
	listed, isList := strings.CutSuffix(path, "/")
	if !isList {
		return path
	}
	if e.document.Paths[listed] != nil {
		return listed
	}
	for _, name := range []string{"/{name}", "/{role}", "/{id}"} {
		switch {
		case e.document.Paths[listed+name+"/"] != nil:
			return path
		case e.document.Paths[listed+name] != nil:
			return listed + name
		}
	}
	return path
}

// title is a path as the documents write it.
func (e *engine) title(path string) string {
	title := strings.NewReplacer("/{role}", "/:role", "/{name}", "/:name", "/{id}", "/:id").Replace(strings.Trim(path, "/"))
	if before, optional := strings.CutSuffix(path, "/{role}"); optional && e.document.Paths[before] != nil {
		return strings.TrimSuffix(title, "/:role") + "[/:role]"
	}
	return title
}

// verbs are the commands of vault, in the order of the page.
var verbs = []string{"read", "list", "write", "delete"}

func order(o operation) int { return slices.Index(verbs, o.verb) }

// operations are those that OpenAPI has of a path.
func operations(path string, item *framework.OASPathItem) (all []operation) {
	read := "read"
	if strings.HasSuffix(path, "/") {
		read = "list"
	}
	add := func(verb string, o *framework.OASOperation) {
		if o != nil {
			all = append(all, operation{verb, o.Summary, o})
		}
	}
	add(read, item.Get)
	add("write", item.Post)
	add("delete", item.Delete)
	return all
}

// verbs are the different operations of a path.
func (s *section) verbs() (all []string) {
	for _, o := range s.operations {
		all = append(all, o.verb)
	}
	return all
}

// sameFields are the paths whose fields are those of another path, but for the names in
// the path itself.
var sameFields = map[string]string{
	"config/history": "history/:role", "connections/:name/history": "history/:role",
	"config/history/:id": "history/:role/:id", "connections/:name/history/:id": "history/:role/:id",
}

// likewise is the section that has the fields of s, nil if s itself has.
func (e *engine) likewise(s *section, all []*section) (*section, error) {
	at := slices.IndexFunc(all, func(other *section) bool { return other.title == sameFields[s.title] })
	if at < 0 {
		return nil, nil
	}
	same := func(a, b *field) bool {
		return a.name == b.name && a.kind == b.kind && a.preset == b.preset && a.is == b.is && slices.Equal(a.given, b.given) && slices.Equal(a.answered, b.answered)
	}
	if !slices.EqualFunc(outside(e.fields(s)), outside(e.fields(all[at])), same) {
		return nil, fmt.Errorf("%s has other fields than %s", s.title, all[at].title)
	}
	return all[at], nil
}

// inPath reports whether a field is a name in the path itself.
func (f *field) inPath() bool { return slices.Contains(f.given, "path") }

// outside are the fields that are no names in the path itself.
func outside(all []*field) []*field { return slices.DeleteFunc(all, (*field).inPath) }

// write writes one section, whose fields as has, unless that is nil.
func (e *engine) write(page *strings.Builder, s, as *section) {
	fmt.Fprintf(page, "\n## `%s`\n\n%s\n", s.title, text(s.description))
	page.WriteString("\n| operation | description |\n|---|---|\n")
	for _, o := range s.operations {
		fmt.Fprintf(page, "| %s | %s |\n", o.verb, cell(o.does))
	}
	all := e.fields(s)
	if as != nil {
		all = slices.DeleteFunc(all, func(f *field) bool { return !f.inPath() })
		other := " "
		if len(all) > 0 {
			other = " other "
		}
		defer fmt.Fprintf(page, "\nAll%sfields are those of [`%s`](#%s), except those in its path.\n", other, as.title, anchor(as.title))
	}
	if len(all) == 0 {
		return
	}
	page.WriteString("\n| field | type | default | in request | in response | description |\n|---|---|---|---|---|---|\n")
	for _, f := range all {
		fmt.Fprintf(page, "| `%s` | %s | %s | %s | %s | %s |\n", f.name, f.kind, f.preset, strings.Join(f.given, ", "), strings.Join(f.answered, ", "), cell(f.is))
	}
}

// field is one row of the table of fields.
type field struct {
	name, kind, preset, is string
	given, answered        []string
}

// fields are all fields of a path by name: those in the path itself, those that
// operations take, and those that they answer. Lists answer what the head says.
func (e *engine) fields(s *section) []*field {
	var all fields
	for _, p := range s.parameters {
		f := all.add(p.Name, p.Description, p.Schema)
		f.given = append(f.given, "path")
	}
	for _, o := range s.operations {
		for _, p := range o.Parameters {
			if p.Name != "list" {
				f := all.add(p.Name, p.Description, p.Schema)
				f.given = append(f.given, o.verb)
			}
		}
		if o.RequestBody != nil {
			for name, schema := range e.schema(o.RequestBody.Content) {
				f := all.add(name, schema.Description, schema)
				f.given = append(f.given, o.verb)
			}
		}
		for _, response := range o.Responses {
			for name, schema := range e.schema(response.Content) {
				if o.verb != "list" {
					f := all.add(name, schema.Description, schema)
					f.answered = append(f.answered, o.verb)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b *field) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.is, b.is)) })
	return all
}

// schema are the fields of a request or an answer.
func (e *engine) schema(content framework.OASContent) map[string]*framework.OASSchema {
	media := content["application/json"]
	if media == nil {
		return nil
	}
	return e.document.Components.Schemas[strings.TrimPrefix(media.Schema.Ref, "#/components/schemas/")].Properties
}

// fields are rows, of which there is one for each meaning of a name.
type fields []*field

func (f *fields) add(name, is string, schema *framework.OASSchema) *field {
	is += values(schema, is)
	for _, known := range *f {
		if known.name == name && known.is == is {
			return known
		}
	}
	*f = append(*f, &field{name: name, kind: kind(schema), preset: preset(schema), is: is})
	return (*f)[len(*f)-1]
}

// values says what a field may be, if that is not any value of its type, and if its
// description does not say it already.
func values(schema *framework.OASSchema, description string) string {
	var all []string
	said := true
	for _, value := range schema.Enum {
		all = append(all, fmt.Sprintf("`%v`", value))
		said = said && strings.Contains(description, fmt.Sprint(value))
	}
	if said {
		return ""
	}
	return " One of: " + strings.Join(all, ", ") + "."
}

// preset is the default that the schema declares. Others are in the description.
func preset(schema *framework.OASSchema) string {
	if schema.Default == nil {
		return ""
	}
	text := fmt.Sprint(schema.Default)
	if seconds, err := time.ParseDuration(text + "s"); err == nil && schema.Format == "duration" {
		text = rotation.Span(seconds)
	}
	return "`" + text + "`"
}

// kinds are the types of OpenAPI that the page calls something else.
var kinds = map[string]string{
	"string duration": "duration", "string date-time": "time", "object map": "object", "object kvpairs": "pairs", "array": "list",
}

func kind(schema *framework.OASSchema) string {
	name := strings.TrimSpace(schema.Type + " " + schema.Format)
	name = cmp.Or(kinds[name], name)
	if schema.DisplayAttrs != nil && schema.DisplayAttrs.Sensitive {
		name += ", secret"
	}
	return name
}

// placeholder is what markdown would take for something else.
var placeholder = regexp.MustCompile(`<[a-z_]+>`)

// text keeps what a description says out of the hands of markdown.
func text(description string) string {
	return placeholder.ReplaceAllString(strings.ReplaceAll(description, "*", `\*`), "`$0`")
}

// cell is text for a table.
func cell(description string) string { return strings.ReplaceAll(text(description), "|", `\|`) }

// dropped is what anchors do not have of a heading.
var dropped = regexp.MustCompile(`[^a-z0-9_ -]`)

// anchor is what GitHub makes of a heading.
func anchor(title string) string { return dropped.ReplaceAllString(strings.ToLower(title), "") }
