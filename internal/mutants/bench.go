package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// bench compiles and runs tests with a mutant in place.
type bench struct {
	root string
	dir  string // for what is compiled
}

// baseline makes sure that the tests pass as things are: one that fails anyway
// kills nothing.
func (b *bench) baseline(ctx context.Context, mutants []mutant) error {
	done := map[string]bool{}
	for _, m := range mutants {
		for _, s := range m.suites {
			if done[s.name] {
				continue
			}
			done[s.name] = true
			binary, err := b.compile(ctx, s.pkg, "")
			if err != nil {
				return err
			}
			killer, err := b.test(ctx, binary, s)
			if err != nil {
				return err
			}
			if killer != "" {
				return fmt.Errorf("without a mutant, %s fails: %s", s.name, killer)
			}
		}
	}
	return nil
}

// judge lets the suites of a mutant try, until one kills it: the quick ones come
// first. One that only a certain suite can kill faces all of them.
func (b *bench) judge(ctx context.Context, m mutant) (verdict, error) {
	v := verdict{mutant: m}
	overlay, err := b.mutate(m)
	if err != nil {
		return v, err
	}
	var binary, compiled string
	for _, s := range m.suites {
		if compiled != s.pkg {
			if binary, err = b.compile(ctx, s.pkg, overlay); err != nil {
				return v, err
			}
			compiled = s.pkg
		}
		killer, err := b.attempt(ctx, binary, s)
		switch {
		case err != nil:
			return v, err
		case killer != "":
			v.killers = append(v.killers, killer)
			if m.needs == "" {
				v.killed = true
				return v, nil
			}
		case m.needs == "" || m.needs == s.name:
			v.missing = append(v.missing, s.name)
		}
	}
	v.killed = len(v.killers) > 0 && (m.needs == "" || len(v.missing) == 0)
	return v, nil
}

// attempt lets one suite try. Tests that do not end count only if they do without the
// mutant: on a busy machine nothing may end in time.
func (b *bench) attempt(ctx context.Context, binary string, s suite) (string, error) {
	found, err := b.test(ctx, binary, s)
	if err != nil || !strings.HasSuffix(found, noEnd) {
		return found, err
	}
	plain, err := b.compile(ctx, s.pkg, "")
	if err != nil {
		return "", err
	}
	if without, err := b.test(ctx, plain, s); err != nil || without != "" {
		return "", err
	}
	return found, nil
}

// mutate writes the changed file and an overlay that puts it in place.
func (b *bench) mutate(m mutant) (string, error) {
	file := filepath.Join(b.root, m.file)
	source, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	changed, err := m.apply(string(source))
	if err != nil {
		return "", err
	}
	mutated := filepath.Join(b.dir, filepath.Base(file))
	if err := os.WriteFile(mutated, []byte(changed), 0o600); err != nil { //nolint:gosec // a folder of our own
		return "", err
	}
	overlay := filepath.Join(b.dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutated}})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// compile makes a test binary of a package.
func (b *bench) compile(ctx context.Context, pkg, overlay string) (string, error) {
	binary := filepath.Join(b.dir, strings.ReplaceAll(pkg, "/", "-"))
	args := []string{"test", "-c"}
	if overlay != "" {
		binary += "-mutant"
		args = append(args, "-overlay", overlay)
	}
	binary += ".test"
	args = append(args, "-o", binary)
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile tests of %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// test runs a suite and returns what failed, or nothing if it passed.
func (b *bench) test(ctx context.Context, binary string, s suite) (string, error) {
	args := append([]string{"-test.run", s.run, "-test.failfast", "-test.timeout", s.limit.String()}, s.args...)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = filepath.Join(b.root, s.pkg)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		return killer(s, out.String()), nil
	}
	return "", err
}

var (
	failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	failedSeed = regexp.MustCompile(`seed \d+, \d nodes: at [0-9.]+s: (\w+)`)
	endlessRun = regexp.MustCompile(`(?m)running tests:\n\s+(\S+)`)
)

// noEnd marks a test that was still running when the time was up.
const noEnd = " (no end)"

// killer names the test that failed: the innermost one, and of a history its seed.
func killer(s suite, out string) string {
	if m := endlessRun.FindStringSubmatch(out); m != nil {
		return m[1] + noEnd
	}
	all := failedTest.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return s.name + " (panic)"
	}
	name := all[len(all)-1][1]
	if len(all) > 1 && !strings.Contains(name, "/") {
		name = all[0][1]
	}
	for _, m := range all {
		if strings.HasPrefix(m[1], name+"/") {
			name = m[1]
		}
	}
	if seed := failedSeed.FindString(out); seed != "" {
		name += " (" + seed + ")"
	}
	return name
}
