package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
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
	Cluster      string            `required:"" env:"XPD_CLUSTER" help:"All nodes at the first start, the same on each: NAME=HOST[:HTTP[:RAFT[:POSTGRES]]][/TAG]…,… with the tags witness, zone=NAME, priority=NUMBER, nofailover and nosync. Later only this node's own entry counts."`
	Join         bool              `env:"XPD_JOIN" help:"Join a cluster that exists: --cluster then names this node only, and pgctl node add makes it a member."`
	Dir          string            `required:"" env:"XPD_DIR" type:"path" help:"Folder of this node's data."`
	SecretFile   string            `required:"" env:"XPD_SECRET_FILE" type:"path" help:"File with the cluster's secret, the same on each node: at least 32 random characters."`
	PGBin        string            `name:"pg-bin" default:"/usr/lib/postgresql/15/bin" env:"XPD_PG_BIN" help:"Folder of PostgreSQL's programs."`
	PGUser       string            `name:"pg-user" default:"postgres" env:"XPD_PG_USER" help:"Run PostgreSQL as this user when xpd runs as root."`
	PGSetting    map[string]string `name:"pg-setting" help:"A PostgreSQL setting, NAME=VALUE; repeat for more."`
	PGData       string            `name:"pg-data" env:"XPD_PG_DATA" type:"path" xor:"data" help:"PostgreSQL's data directory (default: pg/data in --dir)."`
	Adopt        string            `env:"XPD_ADOPT" type:"path" xor:"data" help:"Take over the data directory of a PostgreSQL 15 that was set up without xpd, running or not; later it changes nothing."`
	StopPostgres bool              `env:"XPD_STOP_POSTGRES" help:"Stop PostgreSQL on exit. Otherwise it runs on and the next xpd adopts it."`
	Fence        xpd.FenceMode     `default:"auto" enum:"auto,always,off" env:"XPD_FENCE" help:"Close PostgreSQL when xpd is dead or hangs past its lease: where only the lease protects its commits (auto), whenever it is primary (always), or never (off)."`
	Watchdog     string            `env:"XPD_WATCHDOG" type:"path" help:"Watchdog device that resets the host if a primary cannot be closed, such as /dev/watchdog."`
	TLSDir       string            `name:"tls-dir" env:"XPD_TLS_DIR" type:"path" help:"Folder with this node's certificate, as xpd certs makes it: ca.crt, node.crt and node.key. Replaced files are taken without a restart."`
	Tokens       string            `env:"XPD_TOKENS" type:"path" help:"File with the tokens of services and people, as xpd token makes it. Changes count within a second."`
	HealthListen string            `env:"XPD_HEALTH_LISTEN" placeholder:"ADDR" help:"Also serve /live, /ready, /primary, /replica, /sync and /metrics at this address, such as 10.0.0.1:8301, in plain HTTP and without tokens: for load balancers and Prometheus."`
	Unprotected  bool              `env:"XPD_UNPROTECTED" help:"Serve addresses other than loopback without --tls-dir or --tokens. Whoever reaches them has the cluster."`
	HostName     []string          `env:"XPD_HOST_NAME" placeholder:"NAME" help:"Without --tokens a request must name this node by an address, as localhost, or by a host of the members or of its certificate; this name will do as well, such as a load balancer's. Repeat for more."`
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
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	command := []string{"/proc/self/exe", "fence"} // this program, also once it was replaced by another version
	if c.Watchdog != "" {
		if c.Fence == xpd.FenceOff {
			return errors.New("--watchdog needs the fence, but that is off")
		}
		command = append(command, "--watchdog", c.Watchdog)
	}
	return xpd.Run(ctx, xpd.Options{
		Fence: c.Fence, FenceCommand: command,
		Node: node, Members: members, Join: c.Join, Dir: dir, Secret: secret,
		PGBin: c.PGBin, PGUser: c.PGUser, PGSettings: c.PGSetting, PGData: cmp.Or(c.Adopt, c.PGData), Adopt: c.Adopt != "", StopPostgres: c.StopPostgres,
		TLSDir: c.TLSDir, TokenFile: c.Tokens, HealthListen: c.HealthListen, Reload: reload, Unprotected: c.Unprotected, HostNames: c.HostName,
		Drain: c.Drain, Timeout: c.Timeout, CacheUnits: c.CacheUnits,
		Logger:   slog.New(slog.NewJSONHandler(s.err, &slog.HandlerOptions{Level: c.LogLevel})).With("self", c.Node),
		Registry: reg,
	})
}
