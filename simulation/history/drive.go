package history

import (
	"context"
	"errors"
	"sync"

	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// Drive is simulation.Drive with a ledger beside the load. What the ledger and the
// answers say is wrong is the History of the report.
func Drive(ctx context.Context, c *localcluster.Cluster, o simulation.Options, script func(context.Context, *simulation.Session) error) (simulation.Report, error) {
	ledger, err := OpenLedger(ctx, c, int64(o.Seed)) //nolint:gosec // only tells runs apart
	if err != nil {
		return simulation.Report{}, err
	}
	ledgerCtx, enough := context.WithCancel(ctx)
	defer enough()
	var writers sync.WaitGroup
	defer writers.Wait()
	writers.Go(func() { ledger.Run(ledgerCtx) })
	report, err := simulation.Drive(ctx, c, o, script)
	enough()
	writers.Wait()
	if err != nil {
		return report, err
	}
	report.History = errors.Join(ledger.Check(ctx), WriteOnce(report.Calls))
	return report, nil
}
