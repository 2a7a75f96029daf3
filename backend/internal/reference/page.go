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
	public                       bool
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
		e.write(&page, s)
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
			s.synopsis, s.parameters, s.public = item.Description, item.Parameters, item.Unauthenticated
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

// home is the path whose section a path belongs to.
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
		if e.document.Paths[listed+name] != nil {
			return listed + name
		}
	}
	return path
}

// title is a path as the documents write it.
func (e *engine) title(path string) string {
	title := strings.NewReplacer("/{role}", "/:role", "/{name}", "/:name", "/{id}", "/:id").Replace(strings.TrimPrefix(path, "/"))
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
	read, created := "read", ""
	if strings.HasSuffix(path, "/") {
		read = "list"
	}
	if item.CreateSupported {
		created = " Creates it, if it is not there."
	}
	add := func(verb, more string, o *framework.OASOperation) {
		if o != nil {
			all = append(all, operation{verb, o.Summary + more, o})
		}
	}
	add(read, "", item.Get)
	add("write", created, item.Post)
	add("delete", "", item.Delete)
	return all
}

// verbs are the different operations of a path.
func (s *section) verbs() (all []string) {
	for _, o := range s.operations {
		all = append(all, o.verb)
	}
	return all
}

// write writes one section.
func (e *engine) write(page *strings.Builder, s *section) {
	fmt.Fprintf(page, "\n## `%s`\n\n%s\n", s.title, text(s.description))
	if s.public {
		page.WriteString("\nIt takes no token.\n")
	}
	page.WriteString("\n| operation | does |\n|---|---|\n")
	for _, o := range s.operations {
		fmt.Fprintf(page, "| %s | %s |\n", o.verb, cell(o.does))
	}
	page.WriteString("\n| field | type | default | given to | answered by | is |\n|---|---|---|---|---|---|\n")
	for _, f := range e.fields(s) {
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
	is += values(schema)
	for _, known := range *f {
		if known.name == name && known.is == is {
			return known
		}
	}
	*f = append(*f, &field{name: name, kind: kind(schema), preset: preset(schema), is: is})
	return (*f)[len(*f)-1]
}

// values says what a field may be, if that is not any value of its type.
func values(schema *framework.OASSchema) string {
	var all []string
	for _, value := range schema.Enum {
		all = append(all, fmt.Sprintf("`%v`", value))
	}
	if len(all) == 0 {
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
		text = shorten(seconds)
	}
	return "`" + text + "`"
}

// shorten is a duration without the units that are zero.
func shorten(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if short, found := strings.CutSuffix(text, zero); found {
			text = short + zero[:1]
		}
	}
	return text
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
