package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/xpd-platform/xpd/internal/xpd"
	"github.com/xpd-platform/xpd/pgcluster"
)

// runCmd is the daemon. Flags are read from the command line first and the
// environment second.
type runCmd struct {
	Node         string            `required:"" env:"XPD_NODE" help:"Name of this node in --cluster."`
	Cluster      string            `required:"" env:"XPD_CLUSTER" help:"All nodes, the same on each: NAME=HOST[:HTTP[:RAFT[:POSTGRES]]],…"`
	Dir          string            `required:"" env:"XPD_DIR" type:"path" help:"Folder of this node's data."`
	SecretFile   string            `required:"" env:"XPD_SECRET_FILE" type:"path" help:"File with the cluster's secret, the same on each node: at least 32 random characters."`
	PGBin        string            `name:"pg-bin" default:"/usr/lib/postgresql/15/bin" env:"XPD_PG_BIN" help:"Folder of PostgreSQL's programs."`
	PGUser       string            `name:"pg-user" default:"postgres" env:"XPD_PG_USER" help:"Run PostgreSQL as this user when xpd runs as root."`
	PGSetting    map[string]string `name:"pg-setting" help:"A PostgreSQL setting, NAME=VALUE; repeat for more."`
	StopPostgres bool              `env:"XPD_STOP_POSTGRES" help:"Stop PostgreSQL on exit. Otherwise it runs on and the next xpd adopts it."`
	Unprotected  bool              `env:"XPD_UNPROTECTED" help:"Serve addresses other than loopback although there is no access control yet."`
	Drain        time.Duration     `default:"5s" env:"XPD_DRAIN" help:"Time for requests to finish on exit."`
	Timeout      time.Duration     `default:"15s" env:"XPD_TIMEOUT" help:"Longest time that a request waits for a primary."`
	CacheUnits   int               `default:"200000" env:"XPD_CACHE_UNITS" help:"Units whose assignments are kept in memory."`
	LogLevel     slog.Level        `default:"info" env:"XPD_LOG_LEVEL" help:"debug, info, warn or error."`
}

// Run serves until ctx ends.
func (c *runCmd) Run(ctx context.Context, s streams) error {
	members, err := pgcluster.ParseMembers(c.Cluster)
	if err != nil {
		return fmt.Errorf("--cluster: %w", err)
	}
	node, err := pgcluster.ParseNodeID(c.Node)
	if err != nil {
		return fmt.Errorf("--node: %w", err)
	}
	text, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return fmt.Errorf("--secret-file: %w", err)
	}
	secret, err := pgcluster.ParseSecret(text)
	if err != nil {
		return fmt.Errorf("--secret-file %s: %w", c.SecretFile, err)
	}
	// PostgreSQL's user passes through it when xpd is root.
	if err := os.MkdirAll(c.Dir, 0o755); err != nil { //nolint:gosec // see above
		return fmt.Errorf("--dir: %w", err)
	}
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	return xpd.Run(ctx, xpd.Options{
		Node: node, Members: members, Dir: dir, Secret: secret,
		PGBin: c.PGBin, PGUser: c.PGUser, PGSettings: c.PGSetting, StopPostgres: c.StopPostgres,
		Unprotected: c.Unprotected, Drain: c.Drain, Timeout: c.Timeout, CacheUnits: c.CacheUnits,
		Logger:   slog.New(slog.NewJSONHandler(s.err, &slog.HandlerOptions{Level: c.LogLevel})).With("self", c.Node),
		Registry: reg,
	})
}
