package netns_test

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
	"github.com/xpd-platform/xpd/simulation/netns"
)

const (
	startPatience = 2 * time.Minute
	stopPatience  = time.Minute
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

// open builds xpd once and starts a new cluster on new hosts.
func (b *bed) open(ctx context.Context, bin string) error {
	if b.dir == "" {
		dir, err := faulttest.MakeDir("")
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
	dir, err := faulttest.MakeDir(b.dir)
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

func (b *bed) program() string { return filepath.Join(b.dir, "xpd") }

// close stops the cluster, on links that are whole, and removes its hosts.
func (b *bed) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	var errs []error
	if b.cluster != nil {
		errs = append(errs, b.network.Heal(ctx), b.cluster.Stop(ctx), faulttest.KeepLogs(b.cluster))
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
	faulttest.Slow(t)
}

// run is a cluster under load whose links a test breaks.
type run struct {
	*simulation.Session
	*netns.Network
}

// underLoad plays script on the shared hosts: see faulttest.Run. Shoppers reach a host
// unless it is unplugged: also one that no other host reaches.
func underLoad(t *testing.T, script func(context.Context, run) error) simulation.Report {
	t.Helper()
	return underLoadBy(t, faulttest.Rules{}, script)
}

// underLoadBy is underLoad with other rules.
func underLoadBy(t *testing.T, by faulttest.Rules, script func(context.Context, run) error) simulation.Report {
	t.Helper()
	return shared.underLoad(t, by, script)
}

func (b *bed) underLoad(t *testing.T, by faulttest.Rules, script func(context.Context, run) error) simulation.Report {
	t.Helper()
	b.use(t)
	return faulttest.Run(t, b.cluster, by, func(ctx context.Context, s *simulation.Session) error {
		return script(ctx, run{s, b.network})
	})
}
