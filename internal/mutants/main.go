// Command mutants breaks safety rules on purpose, one at a time, and demands that
// the tests notice. A mutant is a change of source text, compiled in by go test's
// -overlay: the files themselves stay as they are.
//
// It prints a line for each mutant with the tests that killed it, and fails if one
// survived, or if its text is no longer in the source.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root := flag.String("root", ".", "folder of the module")
	only := flag.String("run", "", "only the mutants whose name matches this pattern")
	flag.Parse()
	if err := run(ctx, os.Stdout, *root, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

var errSurvived = errors.New("a mutant survived")

// run judges the mutants whose name matches, after the tests have passed without.
func run(ctx context.Context, out io.Writer, root, only string) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err = filepath.Abs(root)
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(allMutants(), func(m mutant) bool { return !pattern.MatchString(m.name) })
	b := &bench{root: root}
	if b.dir, err = os.MkdirTemp("", "mutants"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := b.baseline(ctx, chosen); err != nil {
		return err
	}
	killed, began := 0, time.Now()
	for _, m := range chosen {
		start := time.Now()
		v, err := b.judge(ctx, m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		v.took = time.Since(start)
		if v.killed {
			killed++
		}
		fmt.Fprintf(out, "%s\n", v)
	}
	fmt.Fprintf(out, "%d of %d mutants killed in %s\n", killed, len(chosen), time.Since(began).Round(time.Second))
	if killed < len(chosen) {
		return errSurvived
	}
	return nil
}

// verdict is what became of a mutant.
type verdict struct {
	mutant  mutant
	killed  bool // by all the tests that must
	killers []string
	missing []string // suites that must kill it and did not
	took    time.Duration
}

// String is one line.
func (v verdict) String() string {
	fate, detail := "killed", strings.Join(v.killers, "; ")
	if !v.killed {
		fate = "SURVIVED"
		detail = "not noticed by " + strings.Join(v.missing, ", ")
		if len(v.killers) > 0 {
			detail += "; noticed by " + strings.Join(v.killers, "; ")
		}
	}
	return fmt.Sprintf("%-8s  %-50s %5.1f s  %s", fate, v.mutant.name, v.took.Seconds(), detail)
}
