package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// faultTest is a test of one of the design's faults.
type faultTest struct {
	where string // as docs/testing.md calls it
	slow  bool   // make test leaves it out
}

var (
	faultRow  = regexp.MustCompile(`(?m)^\| F(\d+) [^|]*\|([^|]*)\| (\w+) \|$`)
	faultCell = regexp.MustCompile("`(Test|…)(\\w+)`(\\\\\\*)?")
	faultName = regexp.MustCompile(`^TestF\d\d_`)
)

// docs/testing.md says which tests show each fault of the design, where they run and
// which of them take long. It names all of them, and nobody looks for one in vain.
func TestFaultTable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := faultTests(t)
	unnamed := maps.Clone(tests)
	rows := faultRow.FindAllStringSubmatch(string(text), -1)
	if len(rows) != 50 {
		t.Errorf("%d faults are in the table, want 50", len(rows))
	}
	for i, row := range rows {
		prefix := fmt.Sprintf("TestF%02d_", i+1)
		if row[1] != fmt.Sprint(i+1) {
			t.Errorf("F%s stands where F%d should", row[1], i+1)
		}
		cells := faultCell.FindAllStringSubmatch(row[2], -1)
		if len(cells) == 0 {
			t.Errorf("F%d has no test", i+1)
			continue
		}
		var where []string
		for _, cell := range cells {
			name := "Test" + cell[2]
			if cell[1] != "Test" { // shortened: the start is that of the one before
				name = ending(tests, prefix, cell[2])
			}
			test, ok := tests[name]
			switch {
			case !ok || !strings.HasPrefix(name, prefix):
				t.Errorf("F%d: there is no test %s", i+1, cell[0])
			case test.slow != (cell[3] != ""):
				t.Errorf("F%d: %s is slow: %t; a star says so", i+1, name, test.slow)
			}
			where = append(where, test.where)
			delete(unnamed, name)
		}
		slices.Sort(where)
		place := where[0]
		if len(slices.Compact(where)) > 1 {
			place = "both"
		}
		if row[3] != place {
			t.Errorf("F%d is tested on %s, not on %s", i+1, place, row[3])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unnamed)) {
		t.Errorf("%s is not in the table", name)
	}
}

// ending returns the only name that begins and ends so, or "".
func ending(tests map[string]faultTest, prefix, suffix string) string {
	var found []string
	for name := range tests {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// faultTests finds the tests that are named after a fault.
func faultTests(t *testing.T) map[string]faultTest {
	t.Helper()
	all := map[string]faultTest{}
	for dir, where := range map[string]string{"../../simulation": "loopback", "../../simulation/netns": "netns"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no tests in %s: %v", dir, err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range parsed.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && faultName.MatchString(f.Name.Name) {
					all[f.Name.Name] = faultTest{where, calls(f, "slow")}
				}
			}
		}
	}
	return all
}

// calls reports whether f calls a function of its own package.
func calls(f *ast.FuncDecl, name string) bool {
	found := false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if id, ok := call.Fun.(*ast.Ident); ok && id.Name == name {
				found = true
			}
		}
		return true
	})
	return found
}
