// Command xpd runs on every host of the cluster: it serves experiments, takes part
// in deciding who is primary, and manages the PostgreSQL beside it. Its other
// commands import data, print reports, and run a whole cluster on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/xpd-platform/xpd/internal/clientflags"
)

// cli is the whole command line. Each command is a struct in a file of its own,
// with a Run method; kong passes Run the values bound in run.
type cli struct {
	Run           runCmd           `cmd:"" help:"Run the daemon of one node."`
	Fence         fenceCmd         `cmd:"" hidden:"" help:"Close PostgreSQL when xpd cannot: started by xpd run."`
	Local         localCmd         `cmd:"" help:"Run a three-node cluster on this machine."`
	Demo          demoCmd          `cmd:"" help:"Break a loaded cluster on this machine and count what was lost."`
	Bench         benchCmd         `cmd:"" help:"Measure pauses and latencies on this machine."`
	BenchFailover benchFailoverCmd `cmd:"" help:"Measure how long writes pause when the primary goes, on hosts of their own (root)."`
	Recover       recoverCmd       `cmd:"" help:"Let the survivors go on when most nodes are lost for good."`
	Certs         certsCmd         `cmd:"" help:"Make and renew the certificates of a cluster."`
	Token         tokenCmd         `cmd:"" help:"Make, list and revoke tokens of services and people."`
	Import        importCmd        `cmd:"" help:"Load assignments or events from a CSV file."`
	Report        reportCmd        `cmd:"" help:"Print which treatment of an experiment won."`
}

// streams are what a command may read and write.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// exitError asks for an exit code without a message; the command has said it all.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	if err == nil {
		return
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		os.Exit(exit.code)
	}
	fmt.Fprintln(os.Stderr, "xpd:", err)
	os.Exit(1)
}

func run(ctx context.Context, args []string, s streams) error {
	var c cli
	parser, err := kong.New(&c, kong.Name("xpd"), kong.Writers(s.out, s.err),
		kong.Description("Experiments on a PostgreSQL cluster that keeps itself alive."), kong.UsageOnError(),
		kong.Vars(clientflags.Vars(tokenEnv)))
	if err != nil {
		return err
	}
	cmd, err := parser.Parse(args)
	if err != nil {
		return err
	}
	cmd.BindTo(ctx, (*context.Context)(nil))
	return cmd.Run(s)
}
