package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
)

// maxLines bounds a Go file, tests too. It counts all lines, as wc -l does:
// blank lines and comments are read as well.
const maxLines = 500

// vague are the package names that say nothing about what a package provides.
var vague = []string{
	"base", "common", "helper", "helpers", "interfaces", "lib", "misc", "models",
	"repository", "service", "shared", "tools", "types", "util", "utils",
}

func TestPackageNames(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		for _, name := range []string{p.Name, path.Base(p.ImportPath)} {
			if slices.Contains(vague, name) {
				t.Errorf("%s: name a package by what it provides, not %q", p.ImportPath, name)
				break
			}
		}
	}
}

func TestFileLengths(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		for _, file := range slices.Concat(p.GoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(text, []byte("\n")); n > maxLines {
				t.Errorf("%s/%s: %d lines, at most %d; split it by topic", p.ImportPath, file, n, maxLines)
			}
		}
	}
}

// TestDomainStartsNoGoroutine covers what the import rules cannot: a go statement
// needs no import.
func TestDomainStartsNoGoroutine(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if _, isPure := pure[local(p.ImportPath)]; !isPure {
			continue
		}
		files := token.NewFileSet()
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s: domain packages start no goroutine", files.Position(s.Pos()))
				}
				return true
			})
		}
	}
}
