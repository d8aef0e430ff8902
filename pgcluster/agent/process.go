package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/pgcluster"
)

// errServerGone is the end of whatever waited for a server that died.
var errServerGone = errors.New("PostgreSQL ended")

// server is one postmaster, started by us or adopted. It belongs to the Agent.
type server struct {
	pid     int
	pidfd   *os.File
	log     logMark       // where its own lines begin
	foreign bool          // others have started it, with a configuration of theirs
	asked   atomic.Bool   // somebody in this process wants it to end
	gone    chan struct{} // closed once it has ended and its backends too

	tampered atomic.Bool // its upstream was changed by hand at some time
}

// newServer watches pid, which may be gone already.
func newServer(pid int, log logMark) (*server, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return &server{pid: pid, log: log, pidfd: os.NewFile(uintptr(fd), "pidfd"), gone: make(chan struct{})}, nil
}

// awaitExit returns nil once the process has ended, and an error if the agent
// stops watching before that.
func (s *server) awaitExit() error {
	raw, err := s.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a file descriptor is an int32
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 1
	})
}

// signal never reaches another process that got the same number.
func (s *server) signal(sig syscall.Signal) error {
	raw, err := s.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return errServerGone
	}
	return sent
}

func (s *server) reload() error {
	if err := s.signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("reload PostgreSQL: %w", err)
	}
	return nil
}

// watch takes s as the node's server and reports its end. The watcher ends with
// the server, or when unwatch is called.
func (a *Agent) watch(ctx context.Context, s *server) {
	a.mu.Lock()
	a.server, a.probed = s, time.Now()
	a.held = false // what was under way when a server died has started another
	a.mu.Unlock()
	a.publish(func(r *pgcluster.Report) {
		r.Process, r.PositionKnown = pgcluster.ProcessStarting, false
		if s.foreign {
			r.Process = pgcluster.ProcessForeign
		}
		r.LastError = ""
	})
	a.watchers.Go(func() {
		if err := s.awaitExit(); err != nil {
			return
		}
		a.buried(context.WithoutCancel(ctx), s)
	})
}

// buried cleans up after a server that has ended and tells what happened.
func (a *Agent) buried(ctx context.Context, s *server) {
	// Only our own child can be waited for; an adopted one has another parent.
	_, _ = unix.Wait4(s.pid, nil, unix.WNOHANG, nil)
	_ = s.pidfd.Close()
	asked := s.asked.Load()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if s.foreign && !asked {
		a.foreignEnded(ctx, s)
		return
	}
	if err := a.killOrphans(ctx); err != nil {
		a.log.ErrorContext(ctx, "orphaned backends remain", "error", err)
	}
	lastError := ""
	if !asked {
		lastError = s.log.lastError()
		a.log.WarnContext(ctx, "PostgreSQL died", "pid", s.pid, "last_error", lastError)
	}
	a.metrics.exit(asked)

	if !asked {
		a.doubt(ctx)
	}
	a.refreshStopped(ctx, !asked, lastError)
	close(s.gone)
}

// unwatch leaves a running server to whoever comes next.
func (a *Agent) unwatch() {
	if s := a.running(); s != nil {
		_ = s.pidfd.Close()
	}
	a.watchers.Wait()
}

func (a *Agent) running() *server {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.server
}

// adopt looks for a server that runs on our data directory and takes it over.
func (a *Agent) adopt(ctx context.Context) (bool, error) {
	a.adopting.Lock()
	defer a.adopting.Unlock()
	if a.running() != nil {
		return true, nil
	}
	pid, err := readPID(a.p.postmasterPID())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoPID) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s, err := newServer(pid, a.markLog())
	if err != nil {
		return false, nil // no such process: the file is stale
	}
	// The pidfd came first: if this is our server now, the pidfd is its.
	if !a.inhabits(pid) {
		_ = s.pidfd.Close()
		return false, nil
	}
	s.foreign = !a.startedByUs(pid)
	a.watch(ctx, s)
	return true, nil
}

// errNoPID is a file that does not name its server: PostgreSQL died, or the power
// was cut, before it was written. Should a server have been about to write it, it
// is an orphan.
var errNoPID = errors.New("names no process")

func readPID(path string) (int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, errNoPID)
	}
	return pid, nil
}

// start runs PostgreSQL with the saved settings and returns once it answers. The
// caller has decided what it starts as, by standby.signal.
func (a *Agent) start(ctx context.Context) error {
	for {
		doubted := a.doubted()
		if err := a.launchIfDown(ctx); err != nil {
			return err
		}
		err := a.awaitRunning(ctx)
		if again := errors.Is(err, errServerGone) && !doubted && a.doubted(); !again {
			return err
		}
	}
}

func (a *Agent) launch(ctx context.Context) error {
	if found, err := a.adopt(ctx); found || err != nil {
		if found && a.isForeign() {
			return a.expel(ctx)
		}
		return err
	}
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	// A zombie keeps these valid in PostgreSQL's eyes; we know better.
	socket := filepath.Join(a.p.run, fmt.Sprintf(".s.PGSQL.%d", a.self().PGPort))
	for _, stale := range []string{a.p.postmasterPID(), socket, socket + ".lock"} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := a.findFloors(ctx); err != nil {
		return err
	}
	if err := a.resetBelowFloors(ctx); err != nil {
		return err
	}
	if err := a.resetTLS(ctx); err != nil {
		return err
	}
	if err := a.vet(ctx); err != nil { // a clone may have brought settings
		a.log.WarnContext(ctx, "settings not checked", "error", err)
	}
	// Whatever slots it starts with, nobody streams before they are in order.
	if _, err := a.save(func(s *saved) { s.Settings.Serving = false }); err != nil {
		return err
	}
	// First: should newer settings come in between, what was never served with must not
	// count as proven.
	a.launching()
	if err := a.writeConf(); err != nil {
		return err
	}
	log, err := openLog(a.owner, a.p.serverLog())
	if err != nil {
		return err
	}
	defer log.Close()

	// Not CommandContext: the server outlives the order, and maybe us.
	cmd := exec.Command(filepath.Join(a.o.BinDir, "postgres"), //nolint:noctx // it lives on
		"-D", a.p.data,
		"-c", "config_file="+a.p.config(),
		"-c", "hba_file="+a.p.hba(),
		"-c", "ident_file="+a.p.ident())
	cmd.Dir = a.p.pg
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "PGTZ=UTC"}
	cmd.Stdout, cmd.Stderr = log, log
	mark := a.markLog()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: a.owner.credential}
	if err := cmd.Start(); err != nil {
		return err
	}
	s, err := newServer(cmd.Process.Pid, mark)
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	// The pidfd watches from here on; the watcher reaps.
	_ = cmd.Process.Release()
	a.watch(ctx, s)
	a.log.InfoContext(ctx, "started PostgreSQL", "pid", s.pid)
	return nil
}

func (a *Agent) awaitRunning(ctx context.Context) error {
	err := a.await(ctx, func(r pgcluster.Report) (bool, error) {
		if r.Down() {
			return false, fmt.Errorf("%w while starting: %s", errServerGone, r.LastError)
		}
		return r.Running(), nil
	})
	return err
}

// Bounds of a stop.
const (
	fastStop      = 10 * time.Second
	immediateStop = 5 * time.Second
)

// stop ends the server within bounds: it asks for a fast shutdown, then for an
// immediate one, and kills it last. It returns once nothing of it is left.
func (a *Agent) stop(ctx context.Context, fast time.Duration) error {
	s := a.running()
	if s == nil {
		return nil
	}
	s.asked.Store(true)
	for _, try := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{syscall.SIGINT, fast}, {syscall.SIGQUIT, immediateStop}, {syscall.SIGKILL, immediateStop}} {
		if err := s.signal(try.sig); err != nil && !errors.Is(err, errServerGone) && !errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
		select {
		case <-s.gone:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stop PostgreSQL: %w", ctx.Err())
		case <-time.After(try.wait):
			a.log.WarnContext(ctx, "PostgreSQL did not stop in time", "signal", try.sig.String())
		}
	}
	return errors.New("stop PostgreSQL: it survives SIGKILL")
}
