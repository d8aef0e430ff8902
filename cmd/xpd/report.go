package main

import (
	"context"
	"time"

	"github.com/xpd-platform/xpd/internal/clientflags"
)

// reportCmd prints what an experiment has shown.
type reportCmd struct {
	Experiment string        `arg:"" help:"Key of the experiment."`
	Timeout    time.Duration `default:"1m" help:"Give up after this long."`
	JSON       bool          `help:"Print JSON for scripts."`

	clientflags.Flags `envprefix:"XPD_"`
}

// Run prints the report.
func (c *reportCmd) Run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	way, service, err := openService(c.Flags, s)
	if err != nil {
		return err
	}
	found, err := service.Report(ctx, c.Experiment)
	if err != nil {
		return way.Explain(err)
	}
	if c.JSON {
		return printJSON(s.out, found)
	}
	return found.WriteText(s.out)
}
