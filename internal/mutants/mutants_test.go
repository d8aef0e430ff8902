package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// Whoever changes a rule that a mutant breaks changes the mutant along.
func TestMutants_areInTheSource(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, m := range allMutants() {
		source, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.apply(string(source)); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if names[m.name] {
			t.Errorf("two mutants are called %q", m.name)
		}
		names[m.name] = true
	}
}

// The tables alone are quick enough for every run of the tests.
func TestJudge(t *testing.T) {
	t.Parallel()
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{root: abs, dir: t.TempDir()}
	harmless := mutant{
		name: "harmless", file: "failover/choose.go",
		old: "// Whoever is chosen must itself be among those that pledged.", new: "",
	}
	tests := map[string]string{
		"recruit one fewer":      "TestStep_", // several tables, whichever comes first
		"skip the mark":          "TestStep_",
		"open by an old barrier": "TestStep_promotion/",
		harmless.name:            "",
	}
	for _, m := range append(allMutants(), harmless) {
		killer, ok := tests[m.name]
		if !ok {
			continue
		}
		delete(tests, m.name)
		one := tables()
		one.args = []string{"-test.parallel=1"} // the first to fail ends the others: always the same
		m.suites = []suite{one}
		v, err := b.judge(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		named := slices.ContainsFunc(v.killers, func(k string) bool { return strings.HasPrefix(k, killer) })
		if v.killed != (killer != "") || named != (killer != "") {
			t.Errorf("%s; want it killed by %q", v, killer)
		}
	}
	for name := range tests {
		t.Errorf("there is no mutant %q", name)
	}
}

// A test that waits for ever kills a mutant only if it is the mutant that it waits for.
func TestJudge_noEnd(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26\n",
		"p/p.go": "package p\n\nfunc ends() bool { return true }\n",
		"p/p_test.go": `package p

import "testing"

func TestMutant(t *testing.T) {
	if !ends() {
		select {}
	}
}

func TestMachine(t *testing.T) { select {} }
`,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{root: root, dir: t.TempDir()}
	for _, test := range []struct {
		name  string
		limit time.Duration
		want  string
	}{
		{"TestMutant", 3 * time.Second, "TestMutant (no end)"},
		{"TestMachine", time.Second, ""},
	} {
		m := mutant{name: test.name, file: "p/p.go", old: "return true", new: "return false"}
		m.suites = []suite{{name: test.name, pkg: "p", run: "^" + test.name + "$", limit: test.limit}}
		v, err := b.judge(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(v.killers, "; "); got != test.want || v.killed != (test.want != "") {
			t.Errorf("%s: killed %v by %q, want %q", test.name, v.killed, got, test.want)
		}
	}
}
