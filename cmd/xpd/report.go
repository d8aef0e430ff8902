package main

import (
	"context"
	"time"
)

// reportCmd prints what an experiment has shown.
type reportCmd struct {
	Experiment string        `arg:"" help:"Key of the experiment."`
	Server     []string      `env:"XPD_SERVER" default:"http://127.0.0.1:8300" help:"Base URL of a node; repeat for more."`
	Timeout    time.Duration `default:"1m" help:"Give up after this long."`
	JSON       bool          `help:"Print JSON for scripts."`
}

// Run prints the report.
func (c *reportCmd) Run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	service, err := newBatchClient(c.Server)
	if err != nil {
		return err
	}
	found, err := service.Report(ctx, c.Experiment)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, found)
	}
	return found.WriteText(s.out)
}
