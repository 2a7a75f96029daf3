// Command licences writes the licences of all modules that are linked into
// programs: a table of the modules, and each text once. It reads the modules from
// the programs and the texts from Go's cache of modules; one without a licence is
// an error.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

func main() {
	module := flag.String("module", ".", "`directory` of the module that the programs are of")
	flag.Parse()
	if err := run(os.Stdout, *module, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// licensed is what needs a licence: a module, or Go itself.
type licensed struct{ name, dir string }

// text is one licence text, and where it was found.
type text struct {
	content string
	of      []string
}

func run(out io.Writer, module string, programs []string) error {
	if len(programs) == 0 {
		return errors.New("name the programs")
	}
	parts, err := linked(module, programs)
	if err != nil {
		return err
	}
	texts := map[[sha256.Size]byte]*text{}
	for _, part := range parts {
		if err := collect(texts, part); err != nil {
			return err
		}
	}
	return write(out, parts, texts)
}

// linked are all modules of the programs, and Go, by name.
func linked(module string, programs []string) ([]licensed, error) {
	found := map[string]bool{}
	var goVersion string
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return nil, fmt.Errorf("read what is linked: %w", err)
		}
		goVersion = info.GoVersion
		for _, dep := range info.Deps {
			if dep.Replace != nil {
				dep = dep.Replace
			}
			found[dep.Path+"@"+dep.Version] = true
		}
	}
	if goVersion != runtime.Version() {
		return nil, fmt.Errorf("the programs were built by %s, and this is %s", goVersion, runtime.Version())
	}
	parts, err := directories(module, slices.Sorted(maps.Keys(found)))
	if err != nil {
		return nil, err
	}
	root, err := command(module, "env", "GOROOT")
	return append(parts, licensed{"Go's standard library " + strings.Fields(goVersion)[0], strings.TrimSpace(string(root))}), err
}

// directories are where the modules lie in Go's cache.
func directories(module string, names []string) (parts []licensed, err error) {
	answer, err := command(module, append([]string{"mod", "download", "-json"}, names...)...)
	if err != nil {
		return nil, err
	}
	for decoder := json.NewDecoder(strings.NewReader(string(answer))); decoder.More(); {
		var m struct{ Path, Version, Dir string }
		if err := decoder.Decode(&m); err != nil {
			return nil, fmt.Errorf("read modules: %w", err)
		}
		parts = append(parts, licensed{m.Path + " " + m.Version, m.Dir})
	}
	return parts, nil
}

func command(dir string, arguments ...string) ([]byte, error) {
	cmd := exec.Command("go", arguments...)
	cmd.Dir = dir
	answer, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", arguments[0], err)
	}
	return answer, nil
}

// named are files that have a licence, or what a licence wants to go with it.
var named = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-._].*)?$`)

// collect reads the licences of a module.
func collect(texts map[[sha256.Size]byte]*text, part licensed) error {
	entries, err := os.ReadDir(part.dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", part.name, err)
	}
	found := false
	for _, entry := range entries {
		if entry.IsDir() || !named.MatchString(entry.Name()) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(part.dir, entry.Name()))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		if texts[sum] == nil {
			texts[sum] = &text{content: string(content)}
		}
		texts[sum].of = append(texts[sum].of, part.name+": "+entry.Name())
		found = true
	}
	if !found {
		return fmt.Errorf("%s has no licence in %s", part.name, part.dir)
	}
	return nil
}

// write writes the report.
func write(out io.Writer, parts []licensed, texts map[[sha256.Size]byte]*text) error {
	var report strings.Builder
	fmt.Fprintf(&report, "Licences of what is linked into the programs of this release: %d parts, %d texts.\n\n", len(parts), len(texts))
	for _, part := range parts {
		fmt.Fprintln(&report, part.name)
	}
	ordered := slices.SortedFunc(maps.Values(texts), func(a, b *text) int { return slices.Compare(a.of, b.of) })
	for _, t := range ordered {
		fmt.Fprintf(&report, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(t.of, "\n"), strings.TrimSpace(t.content))
	}
	_, err := io.WriteString(out, report.String())
	return err
}
