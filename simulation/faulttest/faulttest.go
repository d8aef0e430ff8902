// Package faulttest plays the script of a fault on a cluster under load and judges
// all that clients saw: each fault by the same rules, wherever its nodes are. Which
// cluster that is, and what is done to it, is the business of the tests.
//
// It is for tests; the daemon does not contain it.
package faulttest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/history"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const (
	// Patience is for a script that names no other.
	Patience = 3 * time.Minute
	// Hung is far above the pauses of most faults, and below the deadlines of a node
	// and of a shopper.
	Hung = 12 * time.Second

	warm = 10 // acknowledgements of each kind before a fault
)

// Rules are what a test asks of the clients' side.
type Rules struct {
	MayFail  bool          // no promise covers the requests of this fault
	Patience time.Duration // of the whole script; 0: Patience
	Hung     time.Duration // an answer that takes longer hung until a deadline; 0: Hung
}

// Run runs script while shoppers use every node of a ready cluster, with a ledger
// beside them, and then checks that nothing acknowledged is missing anywhere, that
// one node alone acknowledged on each timeline, that all answers fit one order, that
// no request failed and that none hung.
func Run(t *testing.T, c *localcluster.Cluster, by Rules, script func(context.Context, *simulation.Session) error) simulation.Report {
	t.Helper()
	if by.Patience == 0 {
		by.Patience = Patience
	}
	if by.Hung == 0 {
		by.Hung = Hung
	}
	ctx, cancel := context.WithTimeout(t.Context(), by.Patience)
	defer cancel()
	ctx, release := c.Guard(ctx)
	defer release()
	seed := rand.Uint64N(1_000_000_000)
	t.Logf("seed %d", seed)
	o := simulation.Options{Rate: rate(), Seed: seed, Progress: t.Output(), MayFail: by.MayFail}
	report, err := history.Drive(ctx, c, o, func(ctx context.Context, s *simulation.Session) error {
		if err := s.AwaitTraffic(ctx, warm); err != nil {
			return err
		}
		return script(ctx, s)
	})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	t.Logf("%+v, acknowledged %+v", report.Requests, report.Acknowledged)
	if err := report.Err(); err != nil {
		t.Error(err)
		for _, c := range report.Complaints {
			t.Log(c)
		}
	}
	for _, line := range report.FaultLines() {
		t.Log(line)
	}
	if !by.MayFail {
		expectNoHang(t, report, by.Hung)
	}
	return report
}

func expectNoHang(t *testing.T, r simulation.Report, hung time.Duration) {
	t.Helper()
	// What empty requests took, too, is the machine's doing.
	floor := r.Latency[len(r.Latency)-1]
	bound := hung + time.Duration(max(floor.Outside.Max, floor.During.Max))
	for _, l := range r.Latency {
		if slowest := time.Duration(max(l.Outside.Max, l.During.Max)); slowest > bound {
			t.Errorf("%s: the slowest answer took %s: a request hung until a deadline", l.Stream, slowest)
		}
	}
}

// ExpectMove checks whether the primary moved, in every disturbance.
func ExpectMove(t *testing.T, r simulation.Report, want bool) {
	t.Helper()
	for _, d := range r.Disturbances {
		if got := d.From != d.To; got != want {
			t.Errorf("%s: the primary was %s and is %s", d.Name, d.From, d.To)
		}
	}
}

// Slow skips a test that takes more than ten seconds unless all faults are asked for.
func Slow(t *testing.T) {
	t.Helper()
	if !all() {
		t.Skip("takes more than ten seconds: XPD_FAULTS=all runs it, as make faults does")
	}
}

func all() bool { return os.Getenv("XPD_FAULTS") == "all" }

// rate is how many treatments are asked for in a second. Requests that come too fast
// for a machine pile up until they fail, and make test has to bear a busy one.
func rate() float64 {
	if all() {
		return 150
	}
	return 50
}

// MakeDir makes a folder that PostgreSQL's OS user can enter.
func MakeDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "xpdsim")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755) //nolint:gosec // PostgreSQL's OS user must get in
}

// KeepLogs copies the logs of the nodes to where XPD_FAULT_LOGS says.
func KeepLogs(c *localcluster.Cluster) error {
	to := os.Getenv("XPD_FAULT_LOGS")
	if to == "" {
		return nil
	}
	for _, m := range c.Members() {
		for _, log := range []string{"xpd.log", "pg/log/postgres.log"} {
			text, err := os.ReadFile(filepath.Join(c.Dir(), string(m.ID), log))
			switch {
			case errors.Is(err, fs.ErrNotExist): // a witness has no PostgreSQL
				continue
			case err != nil:
				return err
			}
			name := fmt.Sprintf("%s-%s-%s", filepath.Base(c.Dir()), m.ID, filepath.Base(log))
			if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil { //nolint:gosec // whoever ran the tests reads it
				return err
			}
		}
	}
	return nil
}
