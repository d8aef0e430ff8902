package fence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of each way to close PostgreSQL.
const (
	fastStop      = 5 * time.Second
	immediateStop = 3 * time.Second
	kill          = 2 * time.Second
	poll          = 10 * time.Millisecond
)

// shutDown ends the PostgreSQL of a data directory within bounds: it asks the
// postmaster for a fast shutdown, then for an immediate one, and then kills all its
// processes. It returns once none is left.
func shutDown(data string) error {
	for _, try := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{syscall.SIGINT, fastStop}, {syscall.SIGQUIT, immediateStop}} {
		p, err := postmaster(data)
		if err != nil {
			break // only orphans are left
		}
		err = p.Signal(try.sig)
		_ = p.Release() // frees a handle
		if err != nil {
			break
		}
		if gone(data, try.wait, 0) {
			return nil
		}
	}
	if gone(data, kill, syscall.SIGKILL) {
		return nil
	}
	return fmt.Errorf("PostgreSQL in %s survives SIGKILL", data)
}

// gone waits until no process of the data directory is left, sending them sig, if it
// is one, again and again, and reports whether that was in time.
func gone(data string, wait time.Duration, sig syscall.Signal) bool {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		pids := inhabitants(data)
		if len(pids) == 0 {
			return true
		}
		for _, pid := range pids {
			if sig == 0 {
				break
			}
			if p, err := inhabitant(pid, data); err == nil {
				_ = p.Signal(sig) // gone in the meantime is what is wanted
				_ = p.Release()   // frees a handle
			}
		}
		select {
		case <-deadline.C:
			return false
		case <-ticker.C:
		}
	}
}

var errNoServer = errors.New("no PostgreSQL")

// postmaster returns the server of a data directory.
func postmaster(data string) (*os.Process, error) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, errNoServer
	}
	return inhabitant(pid, data)
}

// inhabitant returns a process that inhabits the data directory. The handle is taken
// before the process is looked at, so that it is never another one's.
func inhabitant(pid int, data string) (*os.Process, error) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	if !inhabits(pid, data) {
		_ = p.Release() // frees a handle
		return nil, errNoServer
	}
	return p, nil
}

// running reports whether a server or an orphan of one is in the data directory.
func running(data string) bool {
	if data == "" {
		return false
	}
	if p, err := postmaster(data); err == nil {
		_ = p.Release() // frees a handle
		return true
	}
	return len(inhabitants(data)) > 0
}

// inhabitants returns the processes of PostgreSQL that work in the data directory.
func inhabitants(data string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && inhabits(pid, data) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// inhabits reports whether pid is a living PostgreSQL in the data directory. A zombie
// works nowhere.
func inhabits(pid int, data string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
	if err != nil || cwd != data {
		return false
	}
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == "postgres"
}
