package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// programs may be found running in our folder after a crash of PostgreSQL or of
// xpd. Anything else there, such as an administrator's shell, is left alone.
var programs = []string{"postgres", "pg_basebackup", "pg_rewind", "initdb"} //nolint:gochecknoglobals // a constant list

// inhabitants returns the PostgreSQL programs that work in our folder: the server
// and its backends, which stay in PGDATA, and the tools, which the agent starts in
// the folder above.
func (a *Agent) inhabitants() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && a.inhabits(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// inhabits reports whether pid is alive and one of inhabitants. A zombie has no
// working folder any more, so it is not.
func (a *Agent) inhabits(pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
	if err != nil || (!within(cwd, a.p.pg) && !within(cwd, a.p.data)) {
		return false
	}
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil {
		return false
	}
	return slices.Contains(programs, filepath.Base(strings.TrimSuffix(exe, " (deleted)")))
}

// asleep reports whether pid waits for something that a signal would interrupt: it is
// neither busy nor stopped nor stuck in the kernel.
func asleep(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	// The state follows the name of the program, which may hold anything.
	name := bytes.LastIndex(stat, []byte(") "))
	return err == nil && name >= 0 && bytes.HasPrefix(stat[name+2:], []byte("S"))
}

func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// killOrphans ends every inhabitant and returns once they are gone. There must be
// no server that is meant to live.
func (a *Agent) killOrphans(ctx context.Context) error {
	return until(ctx, 5*time.Millisecond, func(context.Context) (bool, error) {
		pids, err := a.inhabitants()
		if err != nil {
			return false, err
		}
		for _, pid := range pids {
			// Gone in the meantime is what we want.
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return false, fmt.Errorf("kill orphan %d: %w", pid, err)
			}
		}
		return len(pids) == 0, nil
	})
}

// until calls check at once and then every interval until it returns true or an
// error, or ctx ends.
func until(ctx context.Context, interval time.Duration, check func(context.Context) (bool, error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		done, err := check(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
