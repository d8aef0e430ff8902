package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/localcluster"
	"github.com/xpd-platform/xpd/simulation/netns"
)

// benchFailoverCmd measures the pauses of failovers on hosts of their own.
type benchFailoverCmd struct {
	Rounds int           `default:"20" help:"How often each scenario is played."`
	Only   string        `help:"Play the scenarios whose names contain this."`
	Soak   time.Duration `help:"Instead, load all processors for so long and see that nothing fails over."`
	Rate   float64       `default:"200" help:"Requests for treatments per second; exposures and purchases come on top."`
	Seed   uint64        `help:"Of the load, to repeat one. Default: a new one each time."`
	JSON   bool          `name:"json" help:"Print the report as JSON."`
	Keep   bool          `help:"Keep the cluster's folder, with its logs."`
	pgFlags
	secureFlag
}

// failoverOutcome is a report that knows whether it is good.
type failoverOutcome interface {
	WriteText(w io.Writer) error
	Err() error
}

// Run prints the report, and fails if a target was missed or a promise broken.
func (c *benchFailoverCmd) Run(ctx context.Context, s streams) error {
	if c.Rate <= 0 || c.Rounds < 1 {
		return fmt.Errorf("--rate %g, --rounds %d: want more than 0", c.Rate, c.Rounds)
	}
	if err := netns.Probe(ctx); err != nil {
		return err
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1_000_000) + 1 //nolint:gosec // short enough to type
	}
	return inFolder(ctx, s, "xpd-bench-", c.Keep, func(dir string) error {
		fmt.Fprintf(s.err, "Starting %d hosts in %s, seed %d …\n", localNodes, dir, c.Seed)
		report, err := c.measure(ctx, s, dir)
		if err != nil {
			return err
		}
		return errors.Join(c.print(report, s), report.Err())
	})
}

func (c *benchFailoverCmd) print(report failoverOutcome, s streams) error {
	if c.JSON {
		return printJSON(s.out, report)
	}
	return report.WriteText(s.out)
}

// measure runs a cluster on hosts of its own while it is measured.
func (c *benchFailoverCmd) measure(ctx context.Context, s streams, dir string) (report failoverOutcome, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find xpd: %w", err)
	}
	network, err := netns.New(ctx, localNodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	var hosts []localcluster.Host
	for _, h := range network.Hosts() {
		hosts = append(hosts, localcluster.Host{Address: h.Address, Command: h.Command()})
	}
	cluster, err := localcluster.Open(localcluster.Options{Dir: dir, Binary: self, Hosts: hosts, PGBin: c.PGBin, PGUser: c.PGUser, Secure: c.Secure})
	if err != nil {
		return nil, err
	}
	guarded, release := cluster.Guard(ctx)
	defer release()
	defer func() {
		over := context.WithoutCancel(ctx)
		err = errors.Join(err, network.Heal(over), stopCluster(over, cluster, s.err))
	}()
	began := time.Now()
	if err := startCluster(guarded, cluster); err != nil {
		return nil, err
	}
	fmt.Fprintf(s.err, "Ready after %.1f s.\n", time.Since(began).Seconds())
	load := simulation.Options{Rate: c.Rate, Seed: c.Seed, Progress: s.err}
	if c.Soak > 0 {
		report, err = simulation.Soak(guarded, cluster, simulation.SoakOptions{Options: load, For: c.Soak})
	} else {
		report, err = simulation.BenchFailover(guarded, cluster, network, simulation.FailoverOptions{Options: load, Rounds: c.Rounds, Only: c.Only})
	}
	return report, because(guarded, err)
}
