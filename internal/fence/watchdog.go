package fence

import (
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A watchdog is armed by opening it. It resets the host unless something is written to
// it within its timeout; a V right before it is closed disarms it.
const (
	petEvery        = time.Second
	watchdogTimeout = 30 // seconds; more than closing PostgreSQL takes
)

// watchdog is armed while there is something to guard. The zero value, without a path,
// does nothing.
type watchdog struct {
	path   string
	logger *slog.Logger
	f      *os.File
	petted time.Duration
	broken bool // the failure was told
}

// pet arms the watchdog, or keeps it from biting.
func (w *watchdog) pet(now time.Duration) {
	if w.path == "" || w.f != nil && now-w.petted < petEvery {
		return
	}
	if err := w.write(); err != nil {
		if !w.broken {
			w.logger.Error("watchdog not armed", "path", w.path, "error", err)
		}
		w.broken = true
		return
	}
	w.petted, w.broken = now, false
}

func (w *watchdog) write() error {
	if w.f == nil {
		f, err := os.OpenFile(w.path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		w.f = f
		// A device that cannot keeps its own timeout.
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, watchdogTimeout)
		w.logger.Info("watchdog armed", "path", w.path)
	}
	_, err := w.f.Write([]byte{0})
	return err
}

// disarm closes the watchdog so that it does not bite.
func (w *watchdog) disarm() {
	if w.f == nil {
		return
	}
	_, err := w.f.WriteString("V")
	if closeErr := w.f.Close(); err == nil {
		err = closeErr
	}
	w.f = nil
	if err != nil {
		w.logger.Error("watchdog not disarmed", "path", w.path, "error", err)
		return
	}
	w.logger.Info("watchdog disarmed", "path", w.path)
}
