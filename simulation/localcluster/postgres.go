package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	pollInterval = 20 * time.Millisecond
	killInterval = 5 * time.Millisecond
	killPatience = 5 * time.Second // for processes to vanish after SIGKILL
	quitPatience = 3 * time.Second // for them to end by an immediate shutdown
)

// errNotRunning says that a node has no PostgreSQL to kill.
var errNotRunning = errors.New("PostgreSQL does not run")

// KillPostgres ends the postmaster of a node with kill -9. Its backends are left
// to end by themselves or by the node's xpd.
func (c *Cluster) KillPostgres(id pgcluster.NodeID) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	p, err := n.postmaster()
	if err != nil {
		return fmt.Errorf("kill PostgreSQL of %s: %w", id, err)
	}
	defer p.Release() //nolint:errcheck // frees a handle
	if err := p.Kill(); err != nil {
		return fmt.Errorf("kill PostgreSQL of %s: %w", id, err)
	}
	return nil
}

// KillNode ends everything on a node with kill -9, like a power cut, and returns
// once it is gone.
func (c *Cluster) KillNode(ctx context.Context, id pgcluster.NodeID) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	if err := n.killXPD(); err != nil {
		return err
	}
	// The postmaster first, so that it starts nobody in place of the killed.
	if p, err := n.postmaster(); err == nil {
		_ = p.Kill() // whoever is left is found below
		_ = p.Release()
	}
	if err := c.signalAll(ctx, n.dir, syscall.SIGKILL, killPatience); err != nil {
		return fmt.Errorf("kill %s: %w", id, err)
	}
	return nil
}

// postmaster returns the running postmaster of the node. The handle is taken
// before the process is examined, so that it cannot be another one later.
func (n *node) postmaster() (*os.Process, error) {
	text, err := os.ReadFile(filepath.Join(n.data(), "postmaster.pid"))
	if err != nil {
		return nil, errors.Join(errNotRunning, err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, errors.Join(errNotRunning, err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, errors.Join(errNotRunning, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != n.data() {
		_ = p.Release() // frees a handle
		return nil, errNotRunning
	}
	return p, nil
}

func (n *node) data() string { return filepath.Join(n.dir, "pg", "data") }

func (n *node) postgresRuns() bool {
	p, err := n.postmaster()
	if err != nil {
		return false
	}
	_ = p.Release() // frees a handle
	return true
}

// sweep ends what is left of the cluster: PostgreSQLs whose xpd was killed.
func (c *Cluster) sweep(ctx context.Context) error {
	if err := c.signalAll(ctx, c.dir, syscall.SIGQUIT, quitPatience); err == nil {
		return nil // an immediate shutdown, which gives back shared memory
	}
	if err := c.signalAll(ctx, c.dir, syscall.SIGKILL, killPatience); err != nil {
		return fmt.Errorf("end what is left of the cluster: %w", err)
	}
	return nil
}

// signalAll sends sig to all processes of the cluster below dir and to those that
// they start, until none is left. It returns an error if some are after patience.
func (c *Cluster) signalAll(ctx context.Context, dir string, sig syscall.Signal, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := map[int]bool{}
	return poll(ctx, killInterval, func() error {
		pids := c.processes(dir)
		for _, pid := range pids {
			if !sent[pid] {
				sent[pid] = true
				_ = syscall.Kill(pid, sig) // gone is as good
			}
		}
		if len(pids) > 0 {
			return fmt.Errorf("processes %v still run", pids)
		}
		return nil
	})
}

// processes returns the ids of xpd and of PostgreSQL's programs that work below
// dir. A person's shell there is none of ours.
func (c *Cluster) processes(dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	bin, err := filepath.EvalSymlinks(c.o.PGBin)
	if err != nil {
		bin = c.o.PGBin
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err != nil || (cwd != dir && !strings.HasPrefix(cwd, dir+"/")) {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		exe = strings.TrimSuffix(exe, " (deleted)")
		if err == nil && (exe == c.o.Binary || filepath.Dir(exe) == bin) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// poll calls check until it returns nil. If ctx ends first it returns what check
// said last.
func poll(ctx context.Context, interval time.Duration, check func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var said error
	for {
		err := check()
		if err == nil {
			return nil
		}
		if said == nil || ctx.Err() == nil { // or the end of ctx is all that it has to say
			said = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), said)
		case <-tick.C:
		}
	}
}
