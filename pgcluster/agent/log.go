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
