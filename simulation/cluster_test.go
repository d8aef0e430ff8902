package simulation_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const (
	startPatience = 60 * time.Second
	faultPatience = 90 * time.Second
	stopPatience  = 30 * time.Second
	hung          = 12 * time.Second // far above every pause here, below the deadlines of a node and of a shopper
	testRate      = 150
	warm          = 20 // acknowledgements of each kind before a fault
)

// bed is the cluster that the tests of faults share, one after the other.
type bed struct {
	mu      sync.Mutex
	dir     string // of the program and the cluster
	cluster *localcluster.Cluster
}

var shared bed

func TestMain(m *testing.M) {
	defer shared.remove()
	m.Run()
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
		if err := b.open(t.Context(), bin); err != nil {
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

// open builds xpd once and starts a new cluster.
func (b *bed) open(ctx context.Context, bin string) error {
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "xpdsim")
		if err != nil {
			return err
		}
		b.dir = dir
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		build := exec.CommandContext(ctx, "go", "build", "-o", b.program(), "github.com/xpd-platform/xpd/cmd/xpd")
		if out, err := build.CombinedOutput(); err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
	}
	dir, err := os.MkdirTemp(b.dir, "cluster")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	b.cluster, err = localcluster.Open(localcluster.Options{
		Dir: dir, Binary: b.program(), Nodes: 3, PGBin: bin, PGUser: "postgres",
	})
	if err != nil {
		return err
	}
	return b.cluster.Start()
}

func (b *bed) program() string { return filepath.Join(b.dir, "xpd") }

func (b *bed) close() error {
	if b.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	err := b.cluster.Stop(ctx)
	b.cluster = nil
	return err
}

// remove leaves nothing behind. That the cluster stops in good order is a promise
// too.
func (b *bed) remove() {
	if err := b.close(); err != nil {
		panic(err)
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// underLoad runs script while shoppers use the cluster, and then checks that
// nothing acknowledged is missing anywhere, that no unit has two treatments and
// that no request failed.
func underLoad(t *testing.T, script func(context.Context, *simulation.Session) error) simulation.Report {
	t.Helper()
	cluster := shared.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	ctx, release := cluster.Guard(ctx)
	defer release()
	seed := rand.Uint64N(1_000_000_000)
	t.Logf("seed %d", seed)
	report, err := simulation.Drive(ctx, cluster, simulation.Options{
		Rate: testRate, Seed: seed, Progress: t.Output(),
	}, func(ctx context.Context, s *simulation.Session) error {
		if err := s.AwaitTraffic(ctx, warm); err != nil {
			return err
		}
		return script(ctx, s)
	})
	if err != nil {
		t.Fatal(err)
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
	for _, l := range report.Latency {
		if slowest := time.Duration(max(l.Outside.Max, l.During.Max)); slowest > hung {
			t.Errorf("%s: the slowest answer took %s: a request hung until a deadline", l.Stream, slowest)
		}
	}
	return report
}
