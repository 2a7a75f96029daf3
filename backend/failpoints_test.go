package backend

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestFailpointsForward reads the sources: what a driver may do besides, it can do in
// the build with failpoints as well, or the tests of faults try another engine.
func TestFailpointsForward(t *testing.T) {
	forwarded := map[string]bool{}
	eachDeclaration(t, "failpoints*.go", func(d ast.Decl) {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil {
			if of, ok := f.Recv.List[0].Type.(*ast.Ident); ok && (of.Name == "breakingDriver" || of.Name == "breakingDrainer") {
				forwarded[f.Name.Name] = true
			}
		}
	})
	capabilities := 0
	eachDeclaration(t, filepath.Join("rotation", "*.go"), func(d ast.Decl) {
		general, ok := d.(*ast.GenDecl)
		if !ok {
			return
		}
		for _, spec := range general.Specs {
			named, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			capability, ok := named.Type.(*ast.InterfaceType)
			if !ok || !embedsDriver(capability) {
				continue
			}
			capabilities++
			for _, method := range capability.Methods.List {
				for _, name := range method.Names {
					if !forwarded[name.Name] {
						t.Errorf("what stands for drivers lacks %s, of rotation.%s", name.Name, named.Name.Name)
					}
				}
			}
		}
	})
	if capabilities < 7 {
		t.Errorf("only %d interfaces of package rotation embed Driver", capabilities)
	}
}

func embedsDriver(i *ast.InterfaceType) bool {
	for _, method := range i.Methods.List {
		if of, ok := method.Type.(*ast.Ident); ok && len(method.Names) == 0 && of.Name == "Driver" {
			return true
		}
	}
	return false
}

// eachDeclaration goes through what the files declare, but for tests.
func eachDeclaration(t *testing.T, pattern string, visit func(ast.Decl)) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			visit(d)
		}
	}
}
