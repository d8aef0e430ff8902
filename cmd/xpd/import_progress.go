package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/xpd-platform/xpd/client/csvimport"
)

// progressEvery is the time between two lines of progress in a log.
const progressEvery = 5 * time.Second

// progress shows how an import goes: a bar on a terminal, now and then a line
// elsewhere.
type progress struct {
	w        io.Writer
	what     string
	terminal bool
	bar      *progressbar.ProgressBar // nil until the size is known
	last     time.Time                // when a line was printed
}

func newProgress(w io.Writer, what string) *progress {
	return &progress{w: w, what: what, terminal: isTerminal(w), last: time.Now()}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) show(now csvimport.Progress) {
	if p.terminal {
		p.showBar(now)
		return
	}
	if time.Since(p.last) < progressEvery {
		return
	}
	p.last = time.Now()
	share := ""
	if now.Size > 0 {
		share = fmt.Sprintf(", %d %% of the file", 100*now.Bytes/now.Size)
	}
	fmt.Fprintf(p.w, "%s: %s lines%s, %s rejected\n", p.what, grouped(now.Lines), share, grouped(now.Rejected))
}

func (p *progress) showBar(now csvimport.Progress) {
	if p.bar == nil {
		size := now.Size
		if size == 0 {
			size = -1 // unknown: a spinner
		}
		p.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(p.w), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription(p.what), progressbar.OptionClearOnFinish())
	}
	_ = p.bar.Set64(now.Bytes) // it is only for show
}

// end clears the bar.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// grouped separates the digits of n by three.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
