package fence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// retirement is how long a helper may take to end when it is replaced.
const retirement = 2 * time.Second

// lock takes the file of the helper's process id. It is a lock of the kernel, which
// ends with the process, however that ends.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &whole); err != nil {
		return nil, errors.Join(fmt.Errorf("fence: %s belongs to another helper: %w", path, err), f.Close())
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("fence: write %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // which gives the lock back
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder returns the process that holds the lock of f, or 0.
func holder(f *os.File) (int, error) {
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &whole); err != nil {
		return 0, err
	}
	if whole.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(whole.Pid), nil
}

// Retire ends the helper that holds the file, if there is one, and returns once it is
// gone. One that does not listen is killed: it closes nothing either way.
func Retire(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	defer f.Close()
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGKILL} {
		pid, err := holder(f)
		if err != nil || pid == 0 {
			return err
		}
		p, err := os.FindProcess(pid)
		if err != nil {
			return err
		}
		// With the handle taken, a lock that is still the same process's shows whose it is.
		if again, err := holder(f); err != nil || again != pid {
			_ = p.Release() // frees a handle
			return err
		}
		err = p.Signal(sig)
		_ = p.Release() // frees a handle
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("fence: end the former helper: %w", err)
		}
		if free, err := awaitFree(ctx, f); free || err != nil {
			return err
		}
	}
	return fmt.Errorf("fence: the former helper, which holds %s, survives SIGKILL", path)
}

// awaitFree waits until nobody holds the lock and reports whether that was in time.
func awaitFree(ctx context.Context, f *os.File) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, retirement)
	defer cancel()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		pid, err := holder(f)
		if err != nil || pid == 0 {
			return pid == 0, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-ticker.C:
		}
	}
}
