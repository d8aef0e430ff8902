package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// mutant is a rule that is broken by replacing text that occurs once in a file.
type mutant struct {
	name     string
	file     string
	old, new string
	suites   []suite
	needs    string // the suite that must notice; if empty, any of them may
}

// suite is some tests of a package. Those of one package stand together in a mutant.
type suite struct {
	name  string
	pkg   string
	run   string // pattern of test names
	args  []string
	limit time.Duration
}

// apply returns the source with the mutant in it.
func (m mutant) apply(source string) (string, error) {
	if n := strings.Count(source, m.old); n != 1 {
		return "", fmt.Errorf("its text occurs %d times in %s, want once:\n%s", n, m.file, m.old)
	}
	return strings.Replace(source, m.old, m.new, 1), nil
}

// Of the pure rules: tables, the exhaustive search, and histories.
func tables() suite {
	return suite{name: "tables", pkg: "failover", run: "^TestStep_|^TestSwitchover$|^TestRestart|^TestChangesOfMembers$|^TestRemoveMember|^TestForceFailover|^TestAbsences$", limit: time.Minute}
}

func searches() suite {
	return suite{name: "search", pkg: "failover", run: "^TestSyncSet_exhaustive$", limit: 5 * time.Minute}
}

func histories() suite {
	return suite{
		name: "histories", pkg: "failover/failovertest", run: "^TestHistories$",
		args: []string{"-seeds=1500"}, limit: 3 * time.Minute,
	}
}

// processes is a test on real processes.
func processes(pkg, test string) suite {
	return suite{name: test, pkg: pkg, run: "^" + test + "$", limit: 2 * time.Minute}
}

func allMutants() []mutant {
	var all []mutant
	for _, m := range slices.Concat(choices(), changes(), openings(), numbers(), roles(), absences()) {
		m.suites = []suite{tables(), histories(), searches()}
		all = append(all, m)
	}
	for _, m := range slices.Concat(beliefs(), takeovers(), restarts(), pauses()) {
		m.suites = []suite{tables()}
		all = append(all, m)
	}
	return slices.Concat(all, orders(), pledges(), settings(), rest(), leases(), fences())
}
