package netns

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

	"github.com/xpd-platform/xpd/pgcluster"
)

// Freeze stops processes of a host where they are, as a hypervisor does with a whole
// machine, until Thaw: those of the named programs, or all if none is named. It
// returns once each has been told and none has started another.
func (n *Network) Freeze(ctx context.Context, a pgcluster.NodeID, programs ...string) error {
	h, err := n.host(a)
	if err != nil {
		return err
	}
	told := map[int]bool{}
	for again := true; again; {
		again = false
		pids, err := h.processes(ctx)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if told[pid] || len(programs) > 0 && !slices.Contains(programs, program(pid)) {
				continue
			}
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop process %d of %s: %w", pid, a, err)
			}
			told[pid], again = true, true
		}
	}
	return nil
}

// Thaw lets all processes of a host go on.
func (n *Network) Thaw(ctx context.Context, a pgcluster.NodeID) error {
	h, err := n.host(a)
	if err != nil {
		return err
	}
	pids, err := h.processes(ctx)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("wake process %d of %s: %w", pid, a, err)
		}
	}
	return nil
}

// processes returns the ids of what runs on h, parents before most children.
func (h Host) processes(ctx context.Context) ([]int, error) {
	text, err := output(ctx, "ip", "netns", "pids", h.netns)
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(text) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("processes of %s: %w", h.ID, err)
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids, nil
}

// program returns the name of what a process runs, or "" if it has ended.
func program(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return filepath.Base(strings.TrimSuffix(path, " (deleted)"))
}
