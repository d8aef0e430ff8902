package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
