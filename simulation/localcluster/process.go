package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// logTail is how much of a log is shown when its program ended unexpectedly.
const logTail = 4096

// DeathError is the end of an xpd that nobody asked for.
type DeathError struct {
	Node    pgcluster.NodeID
	Command string // that it was started with
	Err     error  // how it ended
	Log     string // the end of what it logged
}

func (e *DeathError) Error() string {
	return fmt.Sprintf("xpd of %s died: %v; it logged last:\n%s", e.Node, e.Err, e.Log)
}

func (e *DeathError) Unwrap() error { return e.Err }

// node is a host of the cluster: a folder, and the processes that live in it.
type node struct {
	member  pgcluster.Member
	dir     string
	command []string // of its host, see Host
	joins   bool     // it was added to a cluster that ran
	flags   []string // more of xpd run's

	keepsPostgres bool

	mu  sync.Mutex
	xpd *process // the one that was started last, or nil
}

// process is an xpd.
type process struct {
	cmd    *exec.Cmd
	asked  bool          // somebody wants it to end; guarded by the node's mu
	killed bool          // so that it could not stop its PostgreSQL; likewise
	done   chan struct{} // closed once it has ended
	err    error         // how it ended; to be read after done
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// StartNode starts the xpd of a node, which adopts or starts its PostgreSQL as the
// cluster decides.
func (c *Cluster) StartNode(id pgcluster.NodeID) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.xpd.running() {
		return fmt.Errorf("xpd of %s runs already", id)
	}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // for people to read
	if err != nil {
		return fmt.Errorf("log of %s: %w", id, err)
	}
	defer log.Close()
	p := &process{cmd: c.command(n), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start xpd of %s: %w", id, err)
	}
	n.xpd = p
	go c.await(n, p)
	return nil
}

func (c *Cluster) command(n *node) *exec.Cmd {
	cluster := pgcluster.FormatMembers(c.first)
	if n.joins {
		cluster = n.member.String()
	}
	args := append(slices.Clone(n.command), c.o.Binary,
		"run", "--node", string(n.member.ID), "--cluster", cluster, "--dir", n.dir,
		"--secret-file", filepath.Join(c.dir, secretFile), "--pg-bin", c.o.PGBin, "--pg-user", c.o.PGUser,
	)
	if !c.o.KeepPostgres {
		args = append(args, "--stop-postgres")
	}
	if n.joins {
		args = append(args, "--join")
	}
	args = append(args, c.o.Flags[n.member.ID]...)
	args = append(args, n.flags...)
	switch {
	case c.door != nil:
		args = append(args, c.door.flags(n.member.ID)...)
	case len(c.o.Hosts) > 0:
		args = append(args, "--unprotected") // nobody else is on this network
	}
	for _, s := range c.o.Settings {
		args = append(args, "--pg-setting", s)
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // ended by Stop
	cmd.Dir = n.dir
	// A group of its own, so that Ctrl-C at the terminal reaches this process only,
	// which then stops the nodes in order; and if this process dies they stop too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return cmd
}

// await ends with the process.
func (c *Cluster) await(n *node, p *process) {
	p.err = p.cmd.Wait()
	n.mu.Lock()
	asked := p.asked
	n.mu.Unlock()
	close(p.done)
	if asked {
		return
	}
	select {
	case c.deaths <- &DeathError{Node: n.member.ID, Command: strings.Join(p.cmd.Args, " "), Err: n.endOf(p), Log: tail(n.log())}:
	default: // nobody reads them
	}
}

// endOf says how p ended; it is never nil.
func (n *node) endOf(p *process) error {
	if p.err == nil {
		return errors.New("it ended by itself")
	}
	return p.err
}

// StopNode stops the xpd of a node and its PostgreSQL in an orderly way, and by
// force once ctx ends.
func (c *Cluster) StopNode(ctx context.Context, id pgcluster.NodeID) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	return errors.Join(n.askToStop(), n.awaitStop(ctx))
}

func (n *node) askToStop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.xpd.running() {
		return nil
	}
	n.xpd.asked = true
	if err := n.xpd.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop xpd of %s: %w", n.member.ID, err)
	}
	return nil
}

// awaitStop returns an error unless xpd has stopped PostgreSQL and ended well. An
// xpd that was killed, or whose death was told, is no news.
func (n *node) awaitStop(ctx context.Context) error {
	n.mu.Lock()
	p := n.xpd
	stopping := p != nil && p.asked && !p.killed
	n.mu.Unlock()
	if !stopping {
		return nil
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it logs what its goroutines wait for
		select {
		case <-p.done:
		case <-time.After(time.Second):
		}
		return errors.Join(fmt.Errorf("xpd of %s did not stop in time: %w", n.member.ID, context.Cause(ctx)), n.killXPD())
	}
	if p.err != nil {
		return fmt.Errorf("xpd of %s: %w\n%s", n.member.ID, p.err, tail(n.log()))
	}
	if n.postgresRuns() && !n.keepsPostgres {
		return fmt.Errorf("PostgreSQL of %s outlived its xpd", n.member.ID)
	}
	return nil
}

// KillXPD ends the xpd of a node with kill -9 and returns once it is gone. Its
// PostgreSQL runs on.
func (c *Cluster) KillXPD(id pgcluster.NodeID) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	return n.killXPD()
}

func (n *node) killXPD() error {
	n.mu.Lock()
	p := n.xpd
	if !p.running() {
		n.mu.Unlock()
		return nil
	}
	p.asked, p.killed = true, true
	err := p.cmd.Process.Kill()
	n.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill xpd of %s: %w", n.member.ID, err)
	}
	<-p.done
	return nil
}

// Log returns the end of what the xpd of a node logged.
func (c *Cluster) Log(id pgcluster.NodeID) string {
	n, err := c.node(id)
	if err != nil {
		return ""
	}
	return tail(n.log())
}

func (n *node) log() string { return filepath.Join(n.dir, "xpd.log") }

// tail returns the last lines of a file, as far as it can be read.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size := int64(0)
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	buf := make([]byte, min(size, logTail))
	got, _ := f.ReadAt(buf, size-int64(len(buf))) // the part that was read is shown
	text := string(buf[:got])
	if size > logTail {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}
