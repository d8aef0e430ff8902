package simulation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

var update = flag.Bool("update", false, "write what pgctl says in testdata/pgctl")

const (
	lookPatience = 90 * time.Second // until pgctl says what it should of a cluster that gets there
	nodePatience = 3 * time.Minute  // for a node to be added, where much else runs
)

// TestPgctl is one night of a DBA: the real pgctl, a real cluster that breaks, and every
// word that is read meanwhile. What differs from run to run is masked, see masker.
func TestPgctl(t *testing.T) { //nolint:paralleltest // one story, one cluster
	d := &desk{cluster: own(t, &bed{}).use(t)}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	for _, chapter := range []struct {
		name string
		tell func(context.Context, *testing.T, *desk)
	}{
		{"all is well", tellWell},
		{"two of three nodes are gone", tellMinority},
		{"switchover", tellSwitchover},
		{"settings", tellSettings},
		{"pause", tellPause},
		{"a node is replaced", tellReplace},
		{"writes are blocked", tellBlocked},
	} {
		done := t.Run(chapter.name, func(t *testing.T) {
			if err := d.settle(ctx); err != nil {
				t.Fatal(err)
			}
			chapter.tell(ctx, t, d)
		})
		if !done {
			return // what follows would only say so again
		}
	}
}

// desk is where a DBA sits.
type desk struct {
	cluster *localcluster.Cluster
	mask    masker
	began   time.Time // of the chapter
}

// settle has n1 be primary of a cluster that is well, whose Raft leader is elsewhere.
func (d *desk) settle(ctx context.Context) error {
	const first = "n1"
	cl, err := d.cluster.Client(access.RoleDBA)
	if err != nil {
		return err
	}
	for {
		if err := d.cluster.WaitReady(ctx); err != nil {
			return err
		}
		var now client.Cluster
		err := soonish(ctx, "the Raft leader to leave the primary", func() bool {
			now, err = cl.Cluster(ctx)
			return err == nil && now.Level == failover.LevelOK && now.Op == nil && now.Leader != now.Primary
		})
		if err != nil {
			return err
		}
		if now.Primary == first {
			d.mask, d.began = masker{epoch: now.Epoch, members: d.cluster.Members()}, time.Now()
			return nil
		}
		if _, err := cl.Switchover(ctx, first, "next chapter"); err != nil {
			if p, answered := errors.AsType[*client.Problem](err); !answered || p.Type != "/problems/refused" {
				return err
			}
		}
	}
}

// said is what pgctl said.
type said struct {
	out, err string
	code     int
}

// pgctl runs it, asking the nodes in the order of their names.
func (d *desk) pgctl(ctx context.Context, args ...string) (said, error) {
	if _, err := buildXPD(ctx); err != nil {
		return said{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(program.dir, "pgctl"), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "PGCTL_OPERATOR=ann"}, d.cluster.Env()...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit, ended := errors.AsType[*exec.ExitError](err); ended && exit.Exited() {
		err = nil
	}
	return said{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}, err
}

// step is something that a DBA types.
type step struct {
	file string // of testdata/pgctl, without .txt
	args []string
	code int
	// quiet leaves stderr out: it tells of progress, which may be fast or slow.
	quiet bool
	// facts, if set, looks at what the same command says with --json.
	facts func(out []byte) error
}

// golden is how a step is kept.
func (d *desk) golden(s step, got said) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ pgctl %s\n%s", d.mask.text(quoted(s.args)), d.mask.text(got.out))
	if got.err != "" && !s.quiet {
		fmt.Fprintf(&b, "--- stderr\n%s", d.mask.text(got.err))
	}
	fmt.Fprintf(&b, "--- exit code %d\n", got.code)
	return b.String()
}

func quoted(args []string) string {
	out := slices.Clone(args)
	for i, a := range out {
		if strings.Contains(a, " ") {
			out[i] = "'" + a + "'"
		}
	}
	return strings.Join(out, " ")
}

func (s step) path() string { return filepath.Join("testdata", "pgctl", s.file+".txt") }

// act types once what changes something.
func (d *desk) act(ctx context.Context, t *testing.T, s step) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	began := time.Now()
	got, err := d.pgctl(ctx, s.args...)
	if err != nil {
		t.Fatalf("pgctl %v: %v", s.args, err)
	}
	t.Logf("%s: %d ms", s.file, time.Since(began).Milliseconds())
	text := d.golden(s, got)
	if got.code != s.code {
		t.Fatalf("exit code %d, want %d:\n%s%s", got.code, s.code, text, got.err)
	}
	if *update {
		writeGolden(t, s, text)
	}
	if diff := cmp.Diff(readGolden(t, s), text); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", s.path(), diff)
	}
}

// look types what only asks, until the cluster is where the answer is the one that is
// kept: nodes report a moment apart, and hosts may be slow.
func (d *desk) look(ctx context.Context, t *testing.T, s step) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	wrong := errors.New("it was not asked")
	var text, before string
	same := 0
	err := soonish(ctx, s.file, func() bool {
		got, err := d.pgctl(ctx, s.args...)
		if err != nil {
			wrong = err
			return false
		}
		text = d.golden(s, got)
		if wrong = d.check(ctx, s, got); wrong != nil {
			return false
		}
		if *update { // it has come to rest
			if text != before {
				before, same = text, 0
			}
			same++
			return same > 3
		}
		if diff := cmp.Diff(readGolden(t, s), text); diff != "" {
			wrong = fmt.Errorf("%s (-want +got):\n%s", s.path(), diff)
		}
		return wrong == nil
	})
	if err != nil {
		t.Fatalf("%v: %v\n%s", err, wrong, text)
	}
	if *update {
		writeGolden(t, s, text)
	}
}

// check looks at what does not depend on words.
func (d *desk) check(ctx context.Context, s step, got said) error {
	if got.code != s.code {
		return fmt.Errorf("exit code %d, want %d", got.code, s.code)
	}
	if s.facts == nil {
		return nil
	}
	with, err := d.pgctl(ctx, append(slices.Clone(s.args), "--json")...)
	switch {
	case err != nil:
		return err
	case with.code != s.code:
		return fmt.Errorf("exit code %d with --json, want %d", with.code, s.code)
	}
	if err := s.facts([]byte(with.out)); err != nil {
		return fmt.Errorf("%w in\n%s", err, with.out)
	}
	return nil
}

// facts returns a check of what JSON holds.
func facts[T any](check func(T) bool) func([]byte) error {
	return func(out []byte) error {
		var v T
		if err := json.Unmarshal(out, &v); err != nil {
			return fmt.Errorf("%w: %q", err, out)
		}
		if !check(v) {
			return errors.New("the facts are others")
		}
		return nil
	}
}

func readGolden(t *testing.T, s step) string {
	t.Helper()
	want, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatalf("%v: go test -run TestPgctl -update writes it", err)
	}
	return string(want)
}

func writeGolden(t *testing.T, s step, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(), []byte(text), 0o644); err != nil { // for people to read
		t.Fatal(err)
	}
}

// all runs something for several nodes.
func all(ids []pgcluster.NodeID, do func(pgcluster.NodeID) error) error {
	for _, id := range ids {
		if err := do(id); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}
