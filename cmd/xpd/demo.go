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
)

// loadFlags describe a load on a throw-away cluster.
type loadFlags struct {
	Rate float64 `default:"300" help:"Requests for treatments per second; exposures and purchases come on top."`
	Seed uint64  `help:"Of the load, to repeat one. Default: a new one each time."`
	JSON bool    `name:"json" help:"Print the report as JSON."`
	Keep bool    `help:"Keep the cluster's folder, with its logs."`
	pgFlags
	secureFlag
}

// demoCmd breaks a loaded cluster and counts what was lost.
type demoCmd struct {
	Steady time.Duration `default:"15s" help:"How long the load runs before the first disturbance."`
	loadFlags
}

// Run prints the report, and fails if anything was lost, changed or failed.
func (c *demoCmd) Run(ctx context.Context, s streams) error {
	return c.onCluster(ctx, s, func(ctx context.Context, cluster *localcluster.Cluster, load simulation.Options) (simulation.Report, error) {
		return simulation.Demo(ctx, cluster, simulation.DemoOptions{Options: load, Steady: c.Steady})
	})
}

// measurement is what a command does with a cluster.
type measurement func(context.Context, *localcluster.Cluster, simulation.Options) (simulation.Report, error)

// onCluster runs measure on a new cluster in a temporary folder and prints what
// came of it.
func (f loadFlags) onCluster(ctx context.Context, s streams, measure measurement, extra ...func(simulation.Report, io.Writer) error) error {
	if f.Rate <= 0 {
		return fmt.Errorf("--rate %g: want more than 0", f.Rate)
	}
	if f.Seed == 0 {
		f.Seed = rand.Uint64N(1_000_000) + 1 //nolint:gosec // short enough to type
	}
	return inFolder(ctx, s, "xpd-demo-", f.Keep, func(dir string) error {
		fmt.Fprintf(s.err, "Starting %d nodes in %s, seed %d …\n", localNodes, dir, f.Seed)
		report, err := f.measure(ctx, s, dir, measure)
		if err != nil {
			return err
		}
		return errors.Join(f.print(report, s.out, extra...), report.Err())
	})
}

// inFolder runs a measurement in a new folder, which stays if something went wrong: the
// logs are there.
func inFolder(ctx context.Context, s streams, prefix string, keep bool, measure func(dir string) error) error {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's OS user must get in
		return err
	}
	err = measure(dir)
	if keep || err != nil && ctx.Err() == nil {
		fmt.Fprintf(s.err, "Kept %s, with the logs of the nodes.\n", dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(dir))
}

func (f loadFlags) measure(ctx context.Context, s streams, dir string, measure measurement) (report simulation.Report, err error) {
	self, err := os.Executable()
	if err != nil {
		return report, fmt.Errorf("find xpd: %w", err)
	}
	cluster, err := localcluster.Open(localcluster.Options{
		Dir: dir, Binary: self, Nodes: localNodes, PGBin: f.PGBin, PGUser: f.PGUser, Secure: f.Secure,
	})
	if err != nil {
		return report, err
	}
	guarded, release := cluster.Guard(ctx)
	defer release()
	defer func() {
		err = errors.Join(err, stopCluster(context.WithoutCancel(ctx), cluster, s.err))
	}()
	began := time.Now()
	if err := startCluster(guarded, cluster); err != nil {
		return report, err
	}
	fmt.Fprintf(s.err, "Ready after %.1f s.\n", time.Since(began).Seconds())
	report, err = measure(guarded, cluster, simulation.Options{Rate: f.Rate, Seed: f.Seed, Progress: s.err})
	return report, because(guarded, err)
}

func (f loadFlags) print(report simulation.Report, w io.Writer, extra ...func(simulation.Report, io.Writer) error) error {
	if f.JSON {
		return printJSON(w, report)
	}
	if err := report.WriteText(w); err != nil {
		return err
	}
	for _, part := range extra {
		if err := part(report, w); err != nil {
			return err
		}
	}
	return nil
}
