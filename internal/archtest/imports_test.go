// Package archtest holds the tests that keep the module in the shape its design
// gives it: who may import whom, how packages are named, how long a file may get.
// It has no code of its own and nothing imports it.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/xpd-platform/xpd"

// topLevel names every folder of the module's root that may hold Go packages. A
// new one needs a reason that fits in its package comment.
var topLevel = []string{
	"ansible", "client", "cmd", "docs", "experiment", "failover", "internal", "pgcluster",
	"report", "scripts", "simulation", "stats", "terraform", "tuning",
}

// pure lists the domain packages, each with what it may import beyond the
// standard library. An entry that ends in a slash allows all packages below it.
var pure = map[string][]string{
	"experiment": nil,
	"failover":   {module + "/pgcluster"},
	"pgcluster":  nil,
	"stats":      {"gonum.org/v1/gonum/"},
	"tuning":     {module + "/pgcluster"},
}

// effects are the parts of the standard library that reach outside the process,
// or hide state inside it. Domain packages get their input as arguments instead.
// Not listed are net, for its parsers of addresses, and log/slog, for LogValue.
var effects = []string{
	"crypto/rand", "database/sql", "log", "math/rand", "net/http", "os", "os/exec",
	"os/signal", "os/user", "runtime", "sync", "sync/atomic", "syscall", "unsafe",
}

// listed is the part of go list's description of a package that the tests read.
type listed struct {
	ImportPath string
	Name       string
	Dir        string

	Imports, TestImports, XTestImports                 []string
	GoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
}

func (p listed) testImports() []string {
	return slices.Concat(p.TestImports, p.XTestImports)
}

// list returns every package of the module, with its end-to-end tests, also those
// that do not compile: the build says so itself. It reads no version control: git
// may refuse to, in a checkout that another user owns.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-buildvcs=false", "-tags=e2e", "-json", module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("decode what go list printed: %v", err)
		}
		pkgs = append(pkgs, p)
	}
	if !slices.ContainsFunc(pkgs, func(p listed) bool { return p.ImportPath == module+"/internal/archtest" }) {
		t.Fatalf("go list did not even find this package among %d", len(pkgs))
	}
	return pkgs
}

// Run it with -count=1: Go's test cache does not see the files that go list reads.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		for _, complaint := range checkPackage(p) {
			t.Error(complaint)
		}
	}
}

// checkPackage returns what is wrong with the place and the imports of p. Tests
// may import more than the code beside them: real neighbours, whole daemons.
func checkPackage(p listed) []string {
	var bad []string
	from := local(p.ImportPath)
	if !slices.Contains(topLevel, firstFolder(from)) {
		bad = append(bad, fmt.Sprintf("%s: not in a top-level folder that the design knows", p.ImportPath))
	}
	for _, imp := range p.Imports {
		if why := checkImport(from, imp); why != "" {
			bad = append(bad, fmt.Sprintf("%s imports %s: %s", from, imp, why))
		}
	}
	for _, imp := range p.testImports() {
		if within(local(imp), "cmd") {
			bad = append(bad, fmt.Sprintf("tests of %s import %s: commands are leaves", from, imp))
		}
	}
	return bad
}

// checkImport returns why the package in folder from must not import imp, or "".
func checkImport(from, imp string) string {
	to := local(imp)
	allowed, isPure := pure[from]
	switch {
	case within(to, "cmd"):
		return "commands are leaves"
	case within(to, "internal/xpd") && !within(from, "cmd/xpd") && !within(from, "internal/xpd"):
		return "only cmd/xpd starts the assembled daemon"
	case within(to, "internal/pgtest") && !within(from, "internal/pgtest"):
		return "only tests may use test support"
	case siblings(from, to):
		return "adapters of one domain package do not know each other"
	case isPure && slices.Contains(effects, imp):
		return "domain packages take time, randomness and observations as arguments"
	case isPure && !isStandard(imp) && !slices.ContainsFunc(allowed, func(a string) bool { return covers(a, imp) }):
		return "not among the imports allowed to this domain package"
	}
	return ""
}

// siblings reports whether a and b lie in two different sub-folders of one
// domain package.
func siblings(a, b string) bool {
	parentA, restA, okA := strings.Cut(a, "/")
	parentB, restB, okB := strings.Cut(b, "/")
	_, isPure := pure[parentA]
	return okA && okB && isPure && parentA == parentB && firstFolder(restA) != firstFolder(restB)
}

// local returns the folder, below the module's root, of a package of this module,
// and "" for the root and for packages of others.
func local(importPath string) string {
	folder, _ := strings.CutPrefix(importPath, module+"/")
	if folder == importPath {
		return ""
	}
	return folder
}

// within reports whether folder is parent or lies below it.
func within(folder, parent string) bool {
	return folder == parent || strings.HasPrefix(folder, parent+"/")
}

// covers reports whether the entry allowed of pure allows imp.
func covers(allowed, imp string) bool {
	return imp == allowed || strings.HasSuffix(allowed, "/") && strings.HasPrefix(imp, allowed)
}

// isStandard holds because every other import path starts with a host name.
func isStandard(imp string) bool {
	return !strings.Contains(firstFolder(imp), ".")
}

func firstFolder(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// TestCheckPackage shows that each rule can fail.
func TestCheckPackage(t *testing.T) {
	t.Parallel()
	const m = module + "/"
	tests := []struct {
		name string
		pkg  listed
		want []string
	}{
		{
			name: "an adapter imports its parent, another domain and a library",
			pkg:  listed{ImportPath: m + "failover/controller", Imports: []string{m + "failover", m + "pgcluster", "log/slog", "github.com/hashicorp/raft"}},
		},
		{
			name: "allowed edges of domain packages",
			pkg:  listed{ImportPath: m + "failover", Imports: []string{m + "pgcluster", "slices"}},
		},
		{
			name: "stats may use gonum",
			pkg:  listed{ImportPath: m + "stats", Imports: []string{"gonum.org/v1/gonum/stat/distuv"}},
		},
		{
			name: "stats may use nothing else",
			pkg:  listed{ImportPath: m + "stats", Imports: []string{"gonum.org/v1/plot", m + "pgcluster"}},
			want: []string{
				"stats imports gonum.org/v1/plot: not among the imports allowed to this domain package",
				"stats imports " + m + "pgcluster: not among the imports allowed to this domain package",
			},
		},
		{
			name: "the vocabulary imports a domain package",
			pkg:  listed{ImportPath: m + "pgcluster", Imports: []string{m + "failover"}},
			want: []string{"pgcluster imports " + m + "failover: not among the imports allowed to this domain package"},
		},
		{
			name: "a domain package imports its own adapter",
			pkg:  listed{ImportPath: m + "experiment", Imports: []string{m + "experiment/pgstore"}},
			want: []string{"experiment imports " + m + "experiment/pgstore: not among the imports allowed to this domain package"},
		},
		{
			name: "a domain package does input and output",
			pkg:  listed{ImportPath: m + "tuning", Imports: []string{"os"}},
			want: []string{"tuning imports os: domain packages take time, randomness and observations as arguments"},
		},
		{
			name: "an adapter imports its sibling's insides",
			pkg:  listed{ImportPath: m + "pgcluster/pool", Imports: []string{m + "pgcluster/agent/postmaster"}},
			want: []string{"pgcluster/pool imports " + m + "pgcluster/agent/postmaster: adapters of one domain package do not know each other"},
		},
		{
			name: "a package imports its own sub-folder, tests import a sibling",
			pkg: listed{
				ImportPath: m + "failover/raftstore", Imports: []string{m + "failover/raftstore/wire"},
				XTestImports: []string{m + "failover/controller", m + "internal/pgtest", m + "internal/xpd"},
			},
		},
		{
			name: "production code uses test support",
			pkg:  listed{ImportPath: m + "simulation", Imports: []string{m + "internal/pgtest"}},
			want: []string{"simulation imports " + m + "internal/pgtest: only tests may use test support"},
		},
		{
			name: "the daemon is assembled elsewhere than in its command",
			pkg:  listed{ImportPath: m + "cmd/pgctl", Imports: []string{m + "internal/xpd"}},
			want: []string{"cmd/pgctl imports " + m + "internal/xpd: only cmd/xpd starts the assembled daemon"},
		},
		{
			name: "the daemon is assembled in its command",
			pkg:  listed{ImportPath: m + "cmd/xpd", Imports: []string{m + "internal/xpd"}},
		},
		{
			name: "commands are imported",
			pkg:  listed{ImportPath: m + "client", Imports: []string{m + "cmd/xpd"}, TestImports: []string{m + "cmd/pgctl"}},
			want: []string{
				"client imports " + m + "cmd/xpd: commands are leaves",
				"tests of client import " + m + "cmd/pgctl: commands are leaves",
			},
		},
		{
			name: "a top-level folder that the design does not know",
			pkg:  listed{ImportPath: m + "pkg/retry"},
			want: []string{m + "pkg/retry: not in a top-level folder that the design knows"},
		},
		{
			name: "a package in the root",
			pkg:  listed{ImportPath: module},
			want: []string{module + ": not in a top-level folder that the design knows"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, checkPackage(tt.pkg)); diff != "" {
				t.Errorf("checkPackage() (-want +got):\n%s", diff)
			}
		})
	}
}
