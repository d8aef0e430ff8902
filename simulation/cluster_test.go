package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/history"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const (
	startPatience = 2 * time.Minute
	faultPatience = 3 * time.Minute
	stopPatience  = time.Minute
	hung          = 12 * time.Second // far above every pause here, below the deadlines of a node and of a shopper
	warm          = 10               // acknowledgements of each kind before a fault
)

// bed is a cluster for tests of faults. The shared one serves one test after the
// other.
type bed struct {
	mu      sync.Mutex
	dir     string // of the cluster
	cluster *localcluster.Cluster

	settings []string                                  // of PostgreSQL
	tune     func(*localcluster.Options)               // anything else
	prepare  func(t *testing.T, dir string) error      // before the first start, for each node's folder
	ruin     func(c *localcluster.Cluster) (err error) // after the stop
}

var shared bed

// program is xpd, and pgctl beside it, built once.
var program struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	defer removeAll()
	m.Run()
}

// removeAll leaves nothing behind. That the cluster stops in good order is a
// promise too.
func removeAll() {
	if err := shared.close(); err != nil {
		panic(err)
	}
	if program.dir != "" {
		_ = os.RemoveAll(program.dir)
	}
}

// buildXPD returns the path of xpd.
func buildXPD(ctx context.Context) (string, error) {
	program.once.Do(func() {
		if program.dir, program.err = makeDir(""); program.err != nil {
			return
		}
		build := exec.CommandContext(ctx, "go", "build", "-o", program.dir+"/",
			"github.com/xpd-platform/xpd/cmd/xpd", "github.com/xpd-platform/xpd/cmd/pgctl")
		if out, err := build.CombinedOutput(); err != nil {
			program.err = errors.Join(err, errors.New(string(out)))
		}
	})
	return filepath.Join(program.dir, "xpd"), program.err
}

// makeDir makes a folder that PostgreSQL's OS user can enter.
func makeDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "xpdsim")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// slow skips a test that takes more than ten seconds unless all faults are asked for.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("XPD_FAULTS") != "all" {
		t.Skip("takes more than ten seconds: XPD_FAULTS=all runs it, as make faults does")
	}
}

// own returns a bed that serves this test alone.
func own(t *testing.T, b *bed) *bed {
	t.Helper()
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Errorf("stop the cluster: %v", err)
		}
	})
	return b
}

// use returns a cluster that is ready. A test that fails takes it away, so that
// the next one starts with another.
func (b *bed) use(t *testing.T) *localcluster.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster of real processes")
	}
	bin := pgtest.BinDir(t)
	b.mu.Lock()
	t.Cleanup(b.mu.Unlock)
	t.Cleanup(func() {
		if !t.Failed() || b.cluster == nil {
			return
		}
		for _, m := range b.cluster.Members() {
			t.Logf("end of the log of %s:\n%s", m.ID, b.cluster.Log(m.ID))
		}
		if err := b.close(); err != nil {
			t.Logf("stop the cluster: %v", err)
		}
	})
	if b.cluster == nil {
		if err := b.open(t, bin); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	if err := b.cluster.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return b.cluster
}

// open starts a new cluster.
func (b *bed) open(t *testing.T, bin string) error {
	t.Helper()
	binary, err := buildXPD(t.Context())
	if err != nil {
		return err
	}
	if b.dir, err = makeDir(program.dir); err != nil {
		return err
	}
	o := localcluster.Options{Dir: b.dir, Binary: binary, Nodes: 3, PGBin: bin, PGUser: "postgres", Settings: b.settings, Secure: os.Getenv("XPD_SECURE") != ""}
	if b.tune != nil {
		b.tune(&o)
	}
	c, err := localcluster.Open(o)
	if err != nil {
		return err
	}
	b.cluster = c
	for _, m := range c.Members() {
		if b.prepare == nil {
			break
		}
		if err := b.prepare(t, filepath.Join(c.Dir(), string(m.ID))); err != nil {
			return err
		}
	}
	return c.Start()
}

func (b *bed) close() error {
	if b.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	err := errors.Join(b.cluster.Stop(ctx), b.keepLogs())
	if b.ruin != nil {
		err = errors.Join(err, b.ruin(b.cluster))
	}
	b.cluster = nil
	return err
}

// keepLogs copies the logs of the nodes to where XPD_FAULT_LOGS says.
func (b *bed) keepLogs() error {
	to := os.Getenv("XPD_FAULT_LOGS")
	if to == "" {
		return nil
	}
	for _, m := range b.cluster.Members() {
		for _, log := range []string{"xpd.log", "pg/log/postgres.log"} {
			text, err := os.ReadFile(filepath.Join(b.cluster.Dir(), string(m.ID), log))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			name := fmt.Sprintf("%s-%s-%s", filepath.Base(b.cluster.Dir()), m.ID, filepath.Base(log))
			if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// rules are what a test asks of the clients' side.
type rules struct {
	on       *bed          // nil: the shared one
	mayFail  bool          // no promise covers the requests of this fault
	patience time.Duration // 0: faultPatience
	hung     time.Duration // 0: hung
}

// underLoad runs script while shoppers use the cluster, and then checks that
// nothing acknowledged is missing anywhere, that no unit has two treatments and
// that no request failed.
func underLoad(t *testing.T, script func(context.Context, *simulation.Session) error) simulation.Report {
	t.Helper()
	return underLoadBy(t, rules{}, script)
}

// underLoadBy is underLoad with other rules.
func underLoadBy(t *testing.T, by rules, script func(context.Context, *simulation.Session) error) simulation.Report {
	t.Helper()
	if by.on == nil {
		by.on = &shared
	}
	if by.patience == 0 {
		by.patience = faultPatience
	}
	if by.hung == 0 {
		by.hung = hung
	}
	cluster := by.on.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), by.patience)
	defer cancel()
	ctx, release := cluster.Guard(ctx)
	defer release()
	seed := rand.Uint64N(1_000_000_000)
	t.Logf("seed %d", seed)
	report, err := drive(ctx, cluster, simulation.Options{Rate: testRate(), Seed: seed, Progress: t.Output(), MayFail: by.mayFail}, script)
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
	if by.mayFail {
		return report
	}
	// What empty requests took, too, is the machine's doing.
	floor := report.Latency[len(report.Latency)-1]
	bound := by.hung + time.Duration(max(floor.Outside.Max, floor.During.Max))
	for _, l := range report.Latency {
		if slowest := time.Duration(max(l.Outside.Max, l.During.Max)); slowest > bound {
			t.Errorf("%s: the slowest answer took %s: a request hung until a deadline", l.Stream, slowest)
		}
	}
	return report
}

// drive runs script under load, with a ledger beside it, and judges the history.
func drive(ctx context.Context, c *localcluster.Cluster, o simulation.Options, script func(context.Context, *simulation.Session) error) (simulation.Report, error) {
	ledger, err := history.OpenLedger(ctx, c, int64(o.Seed))
	if err != nil {
		return simulation.Report{}, err
	}
	ledgerCtx, enough := context.WithCancel(ctx)
	defer enough()
	var writers sync.WaitGroup
	defer writers.Wait()
	writers.Go(func() { ledger.Run(ledgerCtx) })
	report, err := simulation.Drive(ctx, c, o, func(ctx context.Context, s *simulation.Session) error {
		if err := s.AwaitTraffic(ctx, warm); err != nil {
			return err
		}
		return script(ctx, s)
	})
	enough()
	writers.Wait()
	if err != nil {
		return report, err
	}
	report.History = errors.Join(ledger.Check(ctx), history.WriteOnce(report.Calls))
	return report, nil
}

// testRate is how many treatments are asked for in a second. Requests that come too fast
// for a machine pile up until they fail, and make test has to bear a busy one.
func testRate() float64 {
	if os.Getenv("XPD_FAULTS") == "all" {
		return 150
	}
	return 50
}
