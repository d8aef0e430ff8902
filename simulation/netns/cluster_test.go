package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/xpd-platform/xpd/simulation/netns"
)

const (
	startPatience = 2 * time.Minute
	faultPatience = 3 * time.Minute
	stopPatience  = time.Minute
	warm          = 10 // acknowledgements of each kind before a fault
	dataNodes     = 3
)

// bed is a cluster on hosts of its own, which the tests of faults share, one after
// the other.
type bed struct {
	witnesses int
	ownClocks bool // of the hosts' PostgreSQLs
	secure    bool // so is every bed where XPD_SECURE is set

	mu      sync.Mutex
	dir     string // of the program and the cluster
	network *netns.Network
	cluster *localcluster.Cluster
	clocks  *clocks
}

var shared bed

func TestMain(m *testing.M) {
	defer shared.remove()
	m.Run()
}

// use returns a bed that is ready. A test that fails takes it away, so that the
// next one starts with another.
func (b *bed) use(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster of real processes")
	}
	bin := pgtest.BinDir(t)
	requireNetns(t)
	b.mu.Lock()
	t.Cleanup(b.mu.Unlock)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		b.explain(t)
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
}

// explain logs what the nodes logged last.
func (b *bed) explain(t *testing.T) {
	t.Helper()
	if b.cluster == nil {
		return
	}
	for _, m := range b.cluster.Members() {
		t.Logf("end of the log of %s:\n%s", m.ID, b.cluster.Log(m.ID))
	}
}

// keepLogs copies all logs of the nodes to where XPD_FAULT_LOGS says.
func (b *bed) keepLogs() error {
	to := os.Getenv("XPD_FAULT_LOGS")
	if to == "" {
		return nil
	}
	for _, m := range b.cluster.Members() {
		for _, log := range []string{"xpd.log", "pg/log/postgres.log"} {
			text, err := os.ReadFile(filepath.Join(b.cluster.Dir(), string(m.ID), log))
			switch {
			case errors.Is(err, fs.ErrNotExist): // a witness has no PostgreSQL
				continue
			case err != nil:
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

// open builds xpd once and starts a new cluster on new hosts.
func (b *bed) open(ctx context.Context, bin string) error {
	if b.dir == "" {
		dir, err := makeDir("")
		if err != nil {
			return err
		}
		b.dir = dir
		build := exec.CommandContext(ctx, "go", "build", "-o", b.program(), "github.com/xpd-platform/xpd/cmd/xpd")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
	}
	dir, err := makeDir(b.dir)
	if err != nil {
		return err
	}
	if b.network, err = netns.New(ctx, dataNodes+b.witnesses); err != nil {
		return err
	}
	hosts, err := b.hosts(ctx)
	if err != nil {
		return err
	}
	b.cluster, err = localcluster.Open(localcluster.Options{
		Dir: dir, Binary: b.program(), Hosts: hosts, Witnesses: b.witnesses, PGBin: bin, PGUser: "postgres",
		Secure: b.secure || os.Getenv("XPD_SECURE") != "",
	})
	if err != nil {
		return err
	}
	return b.cluster.Start()
}

// hosts returns where the nodes are.
func (b *bed) hosts(ctx context.Context) (hosts []localcluster.Host, err error) {
	if b.ownClocks {
		if b.clocks, err = newClocks(ctx, b.dir); err != nil {
			return nil, err
		}
	}
	for _, h := range b.network.Hosts() {
		command := h.Command()
		if b.clocks != nil {
			if command, err = b.clocks.command(ctx, b.dir, h); err != nil {
				return nil, err
			}
		}
		hosts = append(hosts, localcluster.Host{Address: h.Address, Command: command})
	}
	return hosts, nil
}

// makeDir makes a folder that PostgreSQL's OS user can enter.
func makeDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "xpdnetns")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func (b *bed) program() string { return filepath.Join(b.dir, "xpd") }

// close stops the cluster, on links that are whole, and removes its hosts.
func (b *bed) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	var errs []error
	if b.cluster != nil {
		errs = append(errs, b.network.Heal(ctx), b.cluster.Stop(ctx), b.keepLogs())
	}
	if b.network != nil {
		errs = append(errs, b.network.Close())
	}
	b.cluster, b.network = nil, nil
	return errors.Join(errs...)
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

// slow skips a test that takes more than ten seconds unless all faults are asked for.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("XPD_FAULTS") != "all" {
		t.Skip("takes more than ten seconds: make faults runs it")
	}
}

// run is a cluster under load whose links a test breaks.
type run struct {
	*simulation.Session
	*netns.Network
}

// underLoad runs script while shoppers use every node, and then checks that nothing
// acknowledged is missing anywhere, that no unit has two treatments and that no
// request failed. Shoppers reach a host unless it is unplugged: also one that no
// other host reaches.
func underLoad(t *testing.T, script func(context.Context, run) error) simulation.Report {
	t.Helper()
	return underLoadFor(t, faultPatience, script)
}

// underLoadFor is underLoad for a script that may take as long as patience.
func underLoadFor(t *testing.T, patience time.Duration, script func(context.Context, run) error) simulation.Report {
	t.Helper()
	return shared.underLoad(t, patience, script)
}

func (b *bed) underLoad(t *testing.T, patience time.Duration, script func(context.Context, run) error) simulation.Report {
	t.Helper()
	b.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx, release := b.cluster.Guard(ctx)
	defer release()
	seed := rand.Uint64N(1_000_000_000)
	t.Logf("seed %d", seed)
	report, err := simulation.Drive(ctx, b.cluster, simulation.Options{
		Rate: testRate(), Seed: seed, Progress: t.Output(),
	}, func(ctx context.Context, s *simulation.Session) error {
		if err := s.AwaitTraffic(ctx, warm); err != nil {
			return err
		}
		return script(ctx, run{s, b.network})
	})
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
		return simulation.Report{}
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
	return report
}

// testRate is how many treatments are asked for in a second. Requests that come too fast
// for a machine pile up until they fail, and make test has to bear a busy one.
func testRate() float64 {
	if os.Getenv("XPD_FAULTS") == "all" {
		return 150
	}
	return 50
}
