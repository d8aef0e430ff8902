package agent

import (
	"bytes"
	"io"
	"os"
)

// maxLog is the size at which a start sets the server's log aside.
const maxLog = 64 << 20

func openLog(w owner, path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640) //nolint:gosec // the group reads logs
	if err != nil {
		return nil, err
	}
	if err := w.take(path); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// lastLogError returns the last FATAL or PANIC line in the end of the server's
// log, without its prefix, or nothing.
func lastLogError(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const tail = 16 << 10
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		if _, err := f.Seek(-tail, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	last := ""
	for line := range bytes.Lines(b) {
		if i := max(bytes.Index(line, []byte("FATAL:  ")), bytes.Index(line, []byte("PANIC:  "))); i >= 0 {
			last = string(bytes.TrimSpace(line[i:]))
		}
	}
	return last
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
// the log is fixed. Only the newest part of a long log is read.
func (m logMark) says(text string) bool {
	f, err := os.Open(m.path)
	if err != nil {
		return false
	}
	defer f.Close()
	const most = 1 << 20
	info, err := f.Stat()
	if err != nil {
		return false
	}
	if info.Size() < m.at {
		m.at = 0 // a new file
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(m.at, info.Size()-most), most))
	return err == nil && bytes.Contains(b, []byte(text))
}
