// Command pgctl is what a DBA sees of the cluster and does with it. It asks any
// xpd over HTTP and can do nothing that the API cannot.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/xpd-platform/xpd/internal/clientflags"
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
	clientflags.Flags `envprefix:"PGCTL_"`

	Timeout time.Duration `env:"PGCTL_TIMEOUT" placeholder:"DURATION" help:"Give up after this long; otherwise 5s for what only asks and 1m for a switchover."`
	JSON    bool          `help:"Print JSON for scripts."`

	Operator string `env:"PGCTL_OPERATOR" help:"Who asks for a change, for the history; otherwise the user of the operating system."`

	Status      statusCmd      `cmd:"" help:"Show every node, its role and its lag. Exit code: 0 ok, 1 degraded, 2 no writes, 3 unknown. Whatever else pgctl fails to do gives 4."`
	Why         whyCmd         `cmd:"" help:"Say why writes wait or no failover happens, which node is missing and what to type next. Exit codes as of status."`
	Plan        planCmd        `cmd:"" help:"Show what a failover or switchover would do, and do nothing. Exit code: 0 it can be done, 4 refused, 3 unknown."`
	Doctor      doctorCmd      `cmd:"" help:"Look for what is wrong or soon will be, and say what to do. Exit code: 0 nothing, 1 warnings, 2 critical, 3 unknown."`
	Node        nodeCmd        `cmd:"" help:"Add, remove, replace or tag nodes."`
	Settings    settingsCmd    `cmd:"" help:"Show or change settings of the whole cluster."`
	Maintenance maintenanceCmd `cmd:"" help:"Do without a standby or witness while people work on its host."`
	Fence       fenceCmd       `cmd:"" help:"Stop PostgreSQL on a node that must not serve, and keep it stopped."`
	Unfence     unfenceCmd     `cmd:"" help:"Take a fenced node back."`
	Reclone     recloneCmd     `cmd:"" help:"Replace the data of a standby by a copy of the primary's."`
	Pause       pauseCmd       `cmd:"" help:"Have the cluster begin no failovers for a while."`
	Resume      resumeCmd      `cmd:"" help:"End a pause."`
	Switchover  switchoverCmd  `cmd:"" help:"Move the primary role to another node."`
	Restart     restartCmd     `cmd:"" help:"Restart PostgreSQL on one node, or on all one after the other."`
	Failover    failoverCmd    `cmd:"" help:"Promote a node although acknowledged writes may be lost, when nothing else helps."`
	History     historyCmd     `cmd:"" help:"Show what happened to the cluster, newest last."`
	Audit       auditCmd       `cmd:"" help:"Show who asked for what, from where and why, newest last."`
	DSN         dsnCmd         `cmd:"" name:"dsn" help:"Print a connection string that finds the primary."`
	Completion  completionCmd  `cmd:"" help:"Print what a shell sources to complete commands, flags and node names."`
	Complete    completeCmd    `cmd:"" name:"__complete" hidden:""`
}

// tokenEnv is where a token may be that is in no file.
const tokenEnv = "PGCTL_TOKEN" //nolint:gosec // the name of a variable, not a token

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
		kong.Description("See and steer an xpd PostgreSQL cluster. Begin with pgctl status; where something is amiss, pgctl why says what to type next."), kong.Vars(clientflags.Vars(tokenEnv)))
	if err != nil {
		return err
	}
	cmd, err := parser.Parse(args)
	if err != nil {
		return fmt.Errorf("%w\npgctl --help shows the commands", err)
	}
	way, err := c.Open(tokenEnv, errOut)
	if err != nil {
		return err
	}
	direct := &http.Client{Transport: way.Transport()}
	ask, err := way.Client(way.Servers, &http.Client{Transport: direct.Transport, Timeout: patience})
	if err != nil {
		return way.Explain(err)
	}
	act, err := way.Client(way.Servers, direct)
	if err != nil {
		return err
	}
	if c.Operator == "" {
		c.Operator = operator()
	}
	act.Operator(c.Operator)
	cmd.BindTo(ctx, (*context.Context)(nil))
	return explain(way, cmd.Run(&env{
		way: way, direct: direct, ask: ask, act: act, timeout: c.Timeout, in: in, out: out, err: errOut, json: c.JSON,
	}))
}

// explain adds to err which flag lets pgctl in, and leaves its exit code.
func explain(way *clientflags.Way, err error) error {
	if exit, ok := errors.AsType[exitError](err); ok {
		return exitError{exit.code, way.Explain(exit.err)}
	}
	return way.Explain(err)
}
