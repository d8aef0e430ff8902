package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// Bounds of a cluster on this machine.
const (
	localNodes     = 3
	startPatience  = 60 * time.Second // a healthy start takes a fraction of it
	stopPatience   = 30 * time.Second
	statusPatience = 10 * time.Second
	echoTime       = 500 * time.Millisecond // in which one Ctrl-C may arrive twice
)

// pgFlags say which PostgreSQL to run.
type pgFlags struct {
	PGBin  string `name:"pg-bin" default:"/usr/lib/postgresql/15/bin" env:"XPD_PG_BIN" help:"Folder of PostgreSQL's programs."`
	PGUser string `name:"pg-user" default:"postgres" env:"XPD_PG_USER" help:"Run PostgreSQL as this user when started by root."`
}

// secureFlag closes a cluster to strangers.
type secureFlag struct {
	Secure bool `help:"Speak TLS and ask for tokens, as on a network; both are made in the cluster's folder."`
}

// localCmd runs a cluster to play with, until Ctrl-C.
type localCmd struct {
	Dir      string `default:".local" type:"path" env:"XPD_LOCAL_DIR" help:"Folder of the cluster. A used one resumes."`
	BasePort int    `default:"8301" env:"XPD_LOCAL_BASE_PORT" help:"HTTP port of the first node; the others count up. Raft is 100 above, PostgreSQL 2800 below."`
	pgFlags
	secureFlag
}

// Run starts the cluster, says how to use it and waits for ctx to end.
func (c *localCmd) Run(ctx context.Context, s streams) error {
	cluster, err := c.open()
	if err != nil {
		return err
	}
	if cluster.Dir() != c.Dir {
		fmt.Fprintf(s.out, "The cluster's data is in %s.\n", cluster.Dir())
	}
	err = c.serve(ctx, cluster, s)
	if _, taken := errors.AsType[*localcluster.PortError](err); taken {
		return err // nothing was started
	}
	if stopErr := stopCluster(context.WithoutCancel(ctx), cluster, s.err); err == nil {
		err = stopErr
	}
	return err
}

func (c *localCmd) open() (*localcluster.Cluster, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find xpd: %w", err)
	}
	return localcluster.Open(localcluster.Options{
		Dir: c.Dir, Binary: self, Nodes: localNodes, BasePort: c.BasePort, PGBin: c.PGBin, PGUser: c.PGUser, Secure: c.Secure,
	})
}

// serve returns nil once ctx ends.
func (c *localCmd) serve(ctx context.Context, cluster *localcluster.Cluster, s streams) error {
	began := time.Now()
	fmt.Fprintf(s.out, "Starting %d nodes, each xpd with its PostgreSQL …\n", localNodes)
	err := startWithSamples(ctx, cluster)
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // somebody changed their mind
	case err != nil:
		return err
	}
	fmt.Fprintf(s.out, "Ready after %.1f s.\n", time.Since(began).Seconds())
	writeWelcome(s.out, cluster)
	showStatus(ctx, cluster, s)
	fmt.Fprintln(s.out, "\nCtrl-C stops the cluster; the next start resumes with the same data.")
	for {
		select {
		case <-ctx.Done():
			return nil
		case death := <-cluster.Deaths():
			fmt.Fprintf(s.err, "%v\nThe other nodes go on; %s comes back with the next start, or at once, in a terminal of its own, with\n  %s\n",
				death, death.Node, death.Command)
		}
	}
}

// startWithSamples returns once the cluster is ready and has something to try.
func startWithSamples(ctx context.Context, cluster *localcluster.Cluster) error {
	ctx, release := cluster.Guard(ctx)
	defer release()
	if err := startCluster(ctx, cluster); err != nil {
		return err
	}
	cl, err := cluster.Client(access.RoleExperimenter)
	if err != nil {
		return err
	}
	return because(ctx, simulation.Install(ctx, cl, simulation.Samples()))
}

// because returns the death that ended ctx instead of what followed from it.
func because(ctx context.Context, err error) error {
	if death, ok := errors.AsType[*localcluster.DeathError](context.Cause(ctx)); ok && err != nil {
		return death
	}
	return err
}

func startCluster(ctx context.Context, cluster *localcluster.Cluster) error {
	if err := cluster.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return cluster.WaitReady(ctx)
}

// errForced is why a stop is cut short.
var errForced = errors.New("it was asked to hurry")

// stopCluster stops all nodes. A signal that arrives meanwhile makes it use force.
func stopCluster(ctx context.Context, cluster *localcluster.Cluster, progress io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	ctx, force := context.WithCancelCause(ctx)
	defer force(nil)
	go func() {
		if secondSignal(ctx) {
			force(errForced)
		}
	}()
	fmt.Fprintln(progress, "Stopping the cluster; Ctrl-C again forces it …")
	return cluster.Stop(ctx)
}

// secondSignal returns true once somebody wants the process to end, again: who
// started it (make, timeout) may pass on the signal that the terminal has sent to
// all already, so what comes right after the first one does not count.
func secondSignal(ctx context.Context) bool {
	first := time.NewTimer(echoTime)
	defer first.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-first.C:
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	select {
	case <-ctx.Done():
		return false
	case <-again:
		return true
	}
}

// writeWelcome prints how to use the cluster.
func writeWelcome(w io.Writer, cluster *localcluster.Cluster) {
	urls := cluster.URLs()
	fmt.Fprintf(w, "\nAPI, the same at every node:\n  %s\n\nTry it:\n", strings.Join(urls, "\n  "))
	letIn := ""
	if cluster.CAFile() != "" {
		for _, variable := range append(cluster.Env(), "XPD_SERVER="+strings.Join(urls, ","),
			"XPD_CA="+cluster.CAFile(), "XPD_TOKEN_FILE="+cluster.TokenFile(access.RoleAssign, access.RoleIngest)) {
			fmt.Fprintf(w, "  export %s\n", variable)
		}
		letIn = ` --cacert $XPD_CA -H "Authorization: Bearer $(cat $XPD_TOKEN_FILE)"`
	}
	curl := func(path, body string) {
		fmt.Fprintf(w, "  curl -s%s %s%s -H 'Content-Type: application/json' -d '%s'\n", letIn, urls[0], path, body)
	}
	curl("/v1/treatments", `{"unit":{"type":"user","id":"alice"}}`)
	curl("/v1/exposures", `{"unit":{"type":"user","id":"alice"},"experiments":["checkout_button"]}`)
	curl("/v1/events", fmt.Sprintf(`{"events":[{"id":"%s","unit":{"type":"user","id":"alice"},"type":"purchase",`+
		`"occurred_at":"%s","items_total":4990,"discounts":500,"currency":"EUR"}]}`,
		uuid.New(), time.Now().UTC().Format(time.RFC3339)))
	if letIn != "" {
		fmt.Fprintf(w, "\nTokens with other roles are in %s.\n", filepath.Dir(cluster.TokenFile()))
	}
	fmt.Fprintln(w)
}

// showStatus prints what pgctl status, beside this program, says.
func showStatus(ctx context.Context, cluster *localcluster.Cluster, s streams) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintf(s.err, "pgctl status: %v\n", err)
		return
	}
	pgctl := filepath.Join(filepath.Dir(self), "pgctl")
	fmt.Fprintf(s.out, "%s --server %s status\n", shortest(pgctl), cluster.URLs()[0])
	cmd := exec.CommandContext(ctx, pgctl, "status")
	cmd.Env = append(os.Environ(), cluster.Env()...)
	cmd.Stdout, cmd.Stderr = s.out, s.err
	err = cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended { // an exit code says how the cluster is
		fmt.Fprintf(s.err, "pgctl status: %v\n", err)
	}
}

// shortest returns path as seen from the working directory if that is shorter.
func shortest(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}
