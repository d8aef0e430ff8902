package xpd

import (
	"context"
	"path/filepath"

	"github.com/xpd-platform/xpd/internal/fence"
	"github.com/xpd-platform/xpd/pgcluster"
)

// FenceMode says when PostgreSQL is closed because its xpd is dead or hangs and the
// lease is over.
type FenceMode string

// Modes of the fence.
const (
	FenceAuto   FenceMode = "auto"   // where the quorum does not protect what it acknowledges
	FenceAlways FenceMode = "always" // whenever it is a primary
	FenceOff    FenceMode = "off"
)

// fence keeps the helper that closes PostgreSQL, until ctx ends.
func (d *daemon) fence(ctx context.Context) error {
	pidFile := filepath.Join(d.Dir, "fence.pid")
	if len(d.FenceCommand) == 0 || d.Fence == FenceOff || d.self.Witness {
		// The helper of an xpd that ran with one would still close PostgreSQL.
		if err := fence.Retire(ctx, pidFile); err != nil && ctx.Err() == nil {
			d.Logger.ErrorContext(ctx, "the fence of a former xpd is still there", "error", err)
		}
		<-ctx.Done()
		return nil
	}
	return fence.Supervisor{
		Command: append(d.FenceCommand, "--pid-file", pidFile),
		Dir:     d.Dir, PIDFile: pidFile, LogFile: filepath.Join(d.Dir, "fence.log"),
		Beat: d.beat, Logger: d.Logger,
	}.Run(ctx)
}

// beat is what the helper has to know at this moment. It asks the agent, so that one
// that hangs is silent.
func (d *daemon) beat() fence.Beat {
	return newBeat(d.agent.Report(), d.Fence, fence.Beat{Until: d.lease.Until(), Data: d.data})
}

func newBeat(r pgcluster.Report, mode FenceMode, b fence.Beat) fence.Beat {
	b.Primary = !r.Down() && r.Role == pgcluster.RolePrimary
	if !b.Primary {
		return b
	}
	switch mode {
	case FenceOff:
	case FenceAlways:
		b.Fenced = true
	case FenceAuto:
		alone := r.Open > 0 && r.SyncNames == "" // k = 0: what it acknowledges is nowhere else
		deposed := r.Pledged.Epoch > r.Led       // it was told to stop, or to lead anew
		b.Fenced = alone || deposed
	}
	return b
}
