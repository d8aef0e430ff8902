package main

import (
	"context"
	"time"

	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// benchCmd measures pauses and latencies.
type benchCmd struct {
	Rounds int           `default:"5" help:"How often each disturbance is repeated."`
	Steady time.Duration `default:"30s" help:"How long latencies are measured before that."`
	loadFlags
}

// Run prints the report, and fails if anything was lost, changed or failed.
func (c *benchCmd) Run(ctx context.Context, s streams) error {
	return c.onCluster(ctx, s, func(ctx context.Context, cluster *localcluster.Cluster, load simulation.Options) (simulation.Report, error) {
		return simulation.Bench(ctx, cluster, simulation.BenchOptions{Options: load, Steady: c.Steady, Rounds: c.Rounds})
	}, simulation.Report.WritePauses)
}
