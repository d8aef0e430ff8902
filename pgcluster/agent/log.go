package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxLog is the size at which the server's log is set aside. There are two at most.
const maxLog = 64 << 20

func openLog(w owner, path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	// Not through a link: the folder is PostgreSQL's, and we may be root.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o640) //nolint:gosec // the group reads logs
	if err != nil {
		return nil, err
	}
	if err := w.take(path); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// trimLog sets the log of a running server aside once it is longer than most bytes. The
// server goes on with the file that it has, at its end, so that is copied and emptied;
// what is written in between is lost. A standby that may not stream writes ten lines a
// second, on both sides, for as long as that takes.
func trimLog(w owner, path string, most int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= most {
		return nil // or there is none yet
	}
	log, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("set log aside: %w", err)
	}
	defer log.Close()
	// If it cannot be kept, the disk is full, most likely. PostgreSQL needs the room more
	// than anybody the log.
	return errors.Join(copyLog(w, log, path+".1"), log.Truncate(0))
}

func copyLog(w owner, log io.Reader, to string) error {
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove old log: %w", err)
	}
	aside, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640) //nolint:gosec // the group reads logs
	if err != nil {
		return fmt.Errorf("set log aside: %w", err)
	}
	_, err = io.Copy(aside, log)
	if err = errors.Join(err, aside.Close(), w.take(to)); err != nil {
		return errors.Join(fmt.Errorf("set log aside: %w", err), os.Remove(to))
	}
	return nil
}

// logMark is a place in the server's log.
type logMark struct {
	path string
	at   int64
}

func (a *Agent) markLog() logMark {
	m := logMark{path: a.p.serverLog()}
	if info, err := os.Stat(m.path); err == nil {
		m.at = info.Size()
	}
	return m
}

// says reports whether the server has logged text since the mark. The language of
// the log is fixed.
func (m logMark) says(text string) bool { return bytes.Contains(m.read(), []byte(text)) }

// lastError returns the last line since the mark that says why a server died. What
// its children say when they lose their peer or their parent does not.
func (m logMark) lastError() string {
	last := ""
	for line := range bytes.Lines(m.read()) {
		i := max(bytes.Index(line, []byte("FATAL:  ")), bytes.Index(line, []byte("PANIC:  ")))
		child := bytes.Contains(line, []byte("] walreceiver ")) || bytes.Contains(line, []byte("] client backend "))
		if i >= 0 && !child {
			last = string(bytes.TrimSpace(line[i:]))
		}
	}
	return last
}

// read returns what was logged since the mark, of a long log the newest part.
func (m logMark) read() []byte {
	const most = 1 << 20
	f, err := os.Open(m.path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	if info.Size() < m.at {
		m.at = 0 // a new file
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(m.at, info.Size()-most), most))
	if err != nil {
		return nil
	}
	return b
}
