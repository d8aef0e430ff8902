package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// BeatsFD is the descriptor on which a helper finds its pipe.
const BeatsFD = 3

// Supervisor is xpd's side: it keeps a helper and speaks to it. All fields are
// required.
type Supervisor struct {
	Command []string // runs a helper
	Dir     string   // in which it works
	PIDFile string   // that it holds
	LogFile string   // that it logs to
	Beat    func() Beat
	Logger  *slog.Logger
}

const (
	again  = time.Second // between two starts of a helper
	maxLog = 1 << 20     // bytes; a longer log is begun anew
)

// Run keeps a helper and speaks to it until ctx ends. The helper stays, while there is
// a PostgreSQL; it takes the end of the pipe for the death of xpd.
func (s Supervisor) Run(ctx context.Context) error {
	var children []int // that may have ended
	for ctx.Err() == nil {
		pid, err := s.keep(ctx)
		children = append(children, pid)
		if err != nil && ctx.Err() == nil {
			s.Logger.ErrorContext(ctx, "no fence: PostgreSQL would outlive this process and its lease", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
		children = slices.DeleteFunc(children, reaped)
	}
	return nil
}

// reaped reports whether pid is no child of ours, or is none any more.
func reaped(pid int) bool {
	if pid == 0 {
		return true
	}
	got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return got == pid || err != nil
}

// keep replaces a former helper and speaks to the new one, whose process id it
// returns, until that ends or ctx does.
func (s Supervisor) keep(ctx context.Context) (pid int, err error) {
	if err := Retire(ctx, s.PIDFile); err != nil {
		return 0, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	defer ours.Close()
	pid, err = s.start(theirs)
	err = errors.Join(err, theirs.Close())
	if err != nil {
		return pid, err
	}
	s.Logger.InfoContext(ctx, "started the fence", "pid", pid)
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	for {
		line, err := s.Beat().encode()
		if err == nil {
			err = ours.SetWriteDeadline(time.Now().Add(time.Second)) // a helper that hangs is replaced
		}
		if err == nil {
			_, err = ours.Write(line)
		}
		if err != nil {
			return pid, fmt.Errorf("fence: speak to the helper: %w", err)
		}
		select {
		case <-ctx.Done():
			return pid, nil
		case <-ticker.C:
		}
	}
}

// start runs a helper that reads from beats.
func (s Supervisor) start(beats *os.File) (pid int, err error) {
	log, err := openLog(s.LogFile)
	if err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(s.Command[0], s.Command[1:]...) //nolint:noctx // our own program, which lives on
	cmd.Dir = s.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{beats} // becomes BeatsFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("fence: start the helper: %w", err)
	}
	pid = cmd.Process.Pid
	return pid, cmd.Process.Release()
}

func openLog(path string) (*os.File, error) {
	mode := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		mode |= os.O_TRUNC
	}
	return os.OpenFile(path, mode, 0o600)
}
