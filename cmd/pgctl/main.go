// Command pgctl is what a DBA sees of the cluster and does with it. It asks any
// xpd over HTTP and can do nothing that the API cannot.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Exit codes. The first four are those of status, for monitoring.
const (
	exitOK       = 0
	exitDegraded = 1
	exitNoWrites = 2
	exitUnknown  = 3
	exitFailed   = 4 // any other command that did not do what it was asked
)

// cli is the whole command line. Each command is a struct in a file of its own,
// with a Run method; kong passes Run the values bound in run.
type cli struct {
	Server  []string      `default:"http://127.0.0.1:8300" env:"PGCTL_SERVER" help:"Where an xpd is: HOST, HOST:PORT or a URL. More, separated by commas, are tried in turn."`
	Timeout time.Duration `env:"PGCTL_TIMEOUT" placeholder:"DURATION" help:"Give up after this long; otherwise 5s for what only asks and 1m for a switchover."`
	JSON    bool          `help:"Print JSON for scripts."`

	Status     statusCmd     `cmd:"" help:"Show every node, its role and its lag. Exit code: 0 ok, 1 degraded, 2 no writes, 3 unknown. Whatever else pgctl fails to do gives 4."`
	Switchover switchoverCmd `cmd:"" help:"Move the primary role to another node."`
	History    historyCmd    `cmd:"" help:"Show what happened to the cluster, newest last."`
	DSN        dsnCmd        `cmd:"" name:"dsn" help:"Print a connection string that finds the primary."`
}

// exitError is an exit code with what should be said on stderr, if anything.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err, os.Stderr))
}

// exitCode says on w what went wrong and returns the exit code for it.
func exitCode(err error, w io.Writer) int {
	if err == nil {
		return exitOK
	}
	exit, ok := errors.AsType[exitError](err)
	if !ok {
		exit = exitError{code: exitFailed, err: err}
	}
	if exit.err != nil {
		var b strings.Builder
		for line := range strings.Lines("pgctl: " + exit.err.Error()) {
			sentence(&b, "  ", "%s", line)
		}
		fmt.Fprint(w, b.String())
	}
	return exit.code
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) error {
	var c cli
	parser, err := kong.New(&c, kong.Name("pgctl"), kong.Writers(out, errOut),
		kong.Description("See and steer an xpd PostgreSQL cluster."))
	if err != nil {
		return err
	}
	cmd, err := parser.Parse(args)
	if err != nil {
		return fmt.Errorf("%w (pgctl --help shows the commands)", err)
	}
	for i, s := range c.Server {
		c.Server[i] = baseURL(s)
	}
	ask, err := client.New(c.Server, &http.Client{Timeout: patience})
	if err != nil {
		return err
	}
	act, err := client.New(c.Server, nil)
	if err != nil {
		return err
	}
	cmd.BindTo(ctx, (*context.Context)(nil))
	return cmd.Run(&env{servers: c.Server, ask: ask, act: act, timeout: c.Timeout, in: in, out: out, err: errOut, json: c.JSON})
}

// baseURL completes what is left out of an address: host, host:port or a URL.
func baseURL(s string) string {
	if strings.Contains(s, "://") {
		return s
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		s = net.JoinHostPort(strings.Trim(s, "[]"), strconv.Itoa(pgcluster.DefaultHTTPPort))
	}
	return "http://" + s
}
