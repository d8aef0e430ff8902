package simulation_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const (
	startPatience = 2 * time.Minute
	faultPatience = faulttest.Patience
	stopPatience  = time.Minute
	hung          = faulttest.Hung
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
		if program.dir, program.err = faulttest.MakeDir(""); program.err != nil {
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

// slow skips a test that takes more than ten seconds unless all faults are asked for.
func slow(t *testing.T) {
	t.Helper()
	faulttest.Slow(t)
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
	if b.dir, err = faulttest.MakeDir(program.dir); err != nil {
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
	err := errors.Join(b.cluster.Stop(ctx), faulttest.KeepLogs(b.cluster))
	if b.ruin != nil {
		err = errors.Join(err, b.ruin(b.cluster))
	}
	b.cluster = nil
	return err
}

// underLoad plays script on the shared cluster: see faulttest.Run.
func underLoad(t *testing.T, script func(context.Context, *simulation.Session) error) simulation.Report {
	t.Helper()
	return underLoadBy(t, faulttest.Rules{}, script)
}

// underLoadBy is underLoad with other rules.
func underLoadBy(t *testing.T, by faulttest.Rules, script func(context.Context, *simulation.Session) error) simulation.Report {
	t.Helper()
	return shared.underLoad(t, by, script)
}

func (b *bed) underLoad(t *testing.T, by faulttest.Rules, script func(context.Context, *simulation.Session) error) simulation.Report {
	t.Helper()
	return faulttest.Run(t, b.use(t), by, script)
}
