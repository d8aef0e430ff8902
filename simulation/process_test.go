package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
)

// look is how often a test looks for a moment that passes quickly.
const look = time.Millisecond

// soon calls check every look until it returns true or an error.
func soon(ctx context.Context, what string, check func() (bool, error)) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		done, err := check()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// process is one that works in the folder of a node.
type process struct {
	pid   int
	title string // its command line, which PostgreSQL rewrites to say what it does
}

// processesOf returns the processes of a node whose title contains part.
func processesOf(s *simulation.Session, id pgcluster.NodeID, part string) ([]process, error) {
	dir := filepath.Join(s.Cluster.Dir(), string(id))
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err != nil || (cwd != dir && !strings.HasPrefix(cwd, dir+"/")) {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		title := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		if err == nil && strings.Contains(title, part) {
			found = append(found, process{pid, title})
		}
	}
	return found, nil
}

// signal sends sig to every process of a node whose title contains part, and
// returns how many there were.
func signal(s *simulation.Session, id pgcluster.NodeID, part string, sig syscall.Signal) (int, error) {
	found, err := processesOf(s, id, part)
	if err != nil {
		return 0, err
	}
	for _, p := range found {
		if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return 0, fmt.Errorf("signal %s of %s: %w", part, id, err)
		}
	}
	return len(found), nil
}

// Titles of processes.
const (
	xpdTitle      = "xpd run "
	startupTitle  = "postgres: startup"
	receiverTitle = "postgres: walreceiver"
	rewindTitle   = "bin/pg_rewind"
	cloneTitle    = "bin/pg_basebackup"
)

// suspend stops the processes of a node that part names, at least one, and returns
// what lets them go on.
func suspend(s *simulation.Session, id pgcluster.NodeID, part string) (resume func() error, err error) {
	found, err := processesOf(s, id, part)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s has no process %q", id, part)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil {
			return nil, fmt.Errorf("stop %s of %s: %w", part, id, err)
		}
	}
	return func() error {
		for _, p := range found {
			if err := syscall.Kill(p.pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		return nil
	}, nil
}

// logWatch reads what the xpd of a node logs from now on.
type logWatch struct {
	node pgcluster.NodeID
	path string
	at   int64
	text string
}

func watchLog(s *simulation.Session, id pgcluster.NodeID) (*logWatch, error) {
	w := &logWatch{node: id, path: filepath.Join(s.Cluster.Dir(), string(id), "xpd.log")}
	info, err := os.Stat(w.path)
	if err != nil {
		return nil, err
	}
	w.at = info.Size()
	return w, nil
}

// line returns the first line so far that contains all parts, or "".
func (w *logWatch) line(parts ...string) (string, error) {
	f, err := os.Open(w.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := f.ReadAt(buf, w.at)
		w.at += int64(n)
		w.text += string(buf[:n])
		if err != nil || n == 0 {
			break
		}
	}
	for line := range strings.Lines(w.text) {
		all := strings.HasSuffix(line, "\n")
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return line, nil
		}
	}
	return "", nil
}

// await returns the first line that contains all parts.
func (w *logWatch) await(ctx context.Context, parts ...string) (found string, err error) {
	err = soon(ctx, fmt.Sprintf("%s to log %q", w.node, parts), func() (bool, error) {
		found, err = w.line(parts...)
		return found != "", err
	})
	return found, err
}

// leader returns the Raft leader, once there is one that is not in exclude.
func leader(ctx context.Context, s *simulation.Session, exclude ...pgcluster.NodeID) (pgcluster.NodeID, error) {
	var found pgcluster.NodeID
	err := soonish(ctx, "a leader", func() bool {
		for _, m := range s.Cluster.Members() {
			if slices.Contains(exclude, m.ID) {
				continue
			}
			st, err := askLeader(ctx, s, m.ID)
			if err == nil && st != "" && !slices.Contains(exclude, st) {
				found = st
				return true
			}
		}
		return false
	})
	return found, err
}

// askLeader returns whom one node takes for the leader.
func askLeader(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) (pgcluster.NodeID, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	c, err := s.Cluster.NodeClient(id)
	if err != nil {
		return "", err
	}
	st, err := c.Cluster(ctx)
	return st.Leader, err
}

// statusOf returns how a node sees the cluster, as soon as it says so.
func statusOf(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) (st failover.Status, err error) {
	err = soonish(ctx, string(id)+" to answer", func() bool {
		var failed error
		st, failed = s.Cluster.Status(ctx, id)
		return failed == nil
	})
	return st, err
}

// soonish calls check every 20 ms until it returns true.
func soonish(ctx context.Context, what string, check func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// sameEpoch runs steps and returns an error if the epoch or the primary is another
// one afterwards.
func sameEpoch(ctx context.Context, s *simulation.Session, steps func() error) error {
	before, err := s.Cluster.WaitStatus(ctx, "writes are open", open)
	if err != nil {
		return err
	}
	if err := steps(); err != nil {
		return err
	}
	after, err := s.Cluster.WaitStatus(ctx, "writes are open", open)
	if err != nil {
		return err
	}
	if after.Epoch != before.Epoch || after.Primary != before.Primary {
		return fmt.Errorf("%s in epoch %d became %s in epoch %d: there was a failover", before.Primary, before.Epoch, after.Primary, after.Epoch)
	}
	return nil
}

func open(st failover.Status) bool { return st.Level != failover.LevelNoWrites && st.Op == nil }
