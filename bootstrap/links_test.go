package bootstrap

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are the files that people copy commands from.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("there are no pages: %v", err)
	}
	return append(pages, "../README.md", "../.github/CONTRIBUTING.md", "RUNBOOK.md")
}

// TestLinks follows every link of what people read to a file or a heading here.
func TestLinks(t *testing.T) {
	for _, file := range append(documents(t), "../.github/SECURITY.md", "../CHANGELOG.md") {
		for _, dead := range deadLinks(t, file) {
			t.Error(dead)
		}
	}
}

// TestLinksAreFollowed has dead links found, and no others.
func TestLinksAreFollowed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("other.md", "# Other\n\n## What `creds` answers, twice\n\n## What `creds` answers, twice\n")
	text := write("page.md", `# Page

[here](#page) [there](other.md) [twice](other.md#what-creds-answers-twice-1)
[out](https://example.com/x#y) [up](..) `+"`[code](nowhere.md)`"+`
[dead](nowhere.md) [anchor](#nowhere) [far](other.md#nowhere) ![picture](nowhere.svg)
`+"```\n[fenced](nowhere.md)\n# no heading\n```\n[not](#no-heading)\n")
	got := deadLinks(t, text)
	want := []string{"nowhere.md", "#nowhere", "other.md#nowhere", "nowhere.svg", "#no-heading"}
	if !slices.EqualFunc(got, want, func(got, want string) bool { return strings.HasSuffix(got, ": "+want) }) {
		t.Errorf("dead are %q, want %q", got, want)
	}
}

var (
	fenced = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	inline = regexp.MustCompile("``.+?``|`[^`\n]+`")
	target = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	titles = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	// dropped is what anchors do not have of a heading.
	dropped = regexp.MustCompile(`[^\pL\pN _-]`)
)

// deadLinks are the links of a file that lead nowhere; those that leave the project
// are not followed.
func deadLinks(t *testing.T, file string) (dead []string) {
	t.Helper()
	text := inline.ReplaceAllString(fenced.ReplaceAllString(read(t, file), ""), "")
	for _, found := range target.FindAllStringSubmatch(text, -1) {
		link := found[1]
		if strings.Contains(link, "://") {
			continue
		}
		path, anchor, _ := strings.Cut(link, "#")
		to := file
		if path != "" {
			to = filepath.Join(filepath.Dir(file), path)
		}
		_, err := os.Stat(to)
		if err != nil || anchor != "" && !slices.Contains(anchors(t, to), anchor) {
			dead = append(dead, fmt.Sprintf("%s has a dead link: %s", file, link))
		}
	}
	return dead
}

// anchors are the names that GitHub gives the headings of a file.
func anchors(t *testing.T, file string) (all []string) {
	t.Helper()
	seen := map[string]int{}
	for _, title := range titles.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, file), ""), -1) {
		name := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(title[1]), ""), " ", "-")
		if n := seen[name]; n > 0 {
			all = append(all, fmt.Sprintf("%s-%d", name, n))
		} else {
			all = append(all, name)
		}
		seen[name]++
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
