package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/xpd-platform/xpd/failover/lease"
	"github.com/xpd-platform/xpd/internal/fence"
)

// fenceCmd is the helper of xpd run, which starts it.
type fenceCmd struct {
	PIDFile  string `name:"pid-file" required:"" help:"File that the helper holds."`
	Watchdog string `help:"Watchdog device to keep from resetting the host."`
}

// Run guards until ctx ends, or neither xpd nor PostgreSQL is left.
func (c *fenceCmd) Run(ctx context.Context, s streams) error {
	return fence.Run(ctx, fence.Options{
		Beats: os.NewFile(fence.BeatsFD, "beats"), PIDFile: c.PIDFile, Watchdog: c.Watchdog, Now: lease.Boottime,
		Logger: slog.New(slog.NewJSONHandler(s.err, nil)),
	})
}
