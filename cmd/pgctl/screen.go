package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// What terminals are told. All that are in use know these; TERM=dumb does not, and
// is written to as a file is.
const (
	escHome       = "\x1b[H"
	escClearLine  = "\x1b[K" // from the cursor on
	escClearBelow = "\x1b[J"
	escEnter      = "\x1b[?1049h\x1b[?25l" // another screen, no cursor
	escLeave      = "\x1b[?25h\x1b[?1049l"
	escReset      = "\x1b[0m"
)

// terminalOf returns the terminal behind w, if there is one whose cursor can be moved.
func terminalOf(w any) (*os.File, bool) {
	f, ok := w.(*os.File)
	if kind := os.Getenv("TERM"); !ok || kind == "" || kind == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return f, true
}

// emphasis returns how what w shows is made to stand out by the exit code that it
// stands for: by colour in a terminal, unless NO_COLOR is set. The words say the same.
func emphasis(w io.Writer) func(text string, code int) string {
	if _, ok := terminalOf(w); !ok || os.Getenv("NO_COLOR") != "" {
		return func(text string, _ int) string { return text }
	}
	return colour
}

// colour paints what comes before the first colon of text.
func colour(text string, code int) string {
	paint, known := map[int]string{exitOK: "32", exitDegraded: "33", exitNoWrites: "31", exitUnknown: "35"}[code]
	head, rest, ok := strings.Cut(text, ":")
	if !ok || !known {
		return text
	}
	return "\x1b[1;" + paint + "m" + head + escReset + ":" + rest
}

// screen is a terminal that is drawn again and again.
type screen struct {
	w    io.Writer
	size func() (columns, lines int)
}

// draw shows what fits of lines, in one write and over what is there, so that nothing
// flickers. Paint, if set, is applied to each line that was cut to fit.
func (s screen) draw(lines []string, paint func(i int, line string) string) error {
	columns, height := s.size()
	if more := len(lines) - height; more > 0 && height > 1 {
		lines = append(lines[:height-1:height-1], fmt.Sprintf("… %d more lines: enlarge the terminal", more+1))
	}
	var b strings.Builder
	b.WriteString(escHome)
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n") // the terminal is raw
		}
		b.WriteString(paint(i, cut(line, columns)) + escClearLine)
	}
	b.WriteString(escClearBelow)
	_, err := io.WriteString(s.w, b.String())
	return err
}

// terminalSize returns how large a terminal is, each time that it is asked.
func terminalSize(f *os.File) func() (columns, lines int) {
	return func() (int, int) {
		columns, lines, err := term.GetSize(int(f.Fd()))
		if err != nil || columns <= 0 || lines <= 0 {
			return width, 24
		}
		return columns, lines
	}
}

// keysOf returns what is typed at in, key by key, and how to give the terminal back.
// Where in is no terminal nobody types.
func keysOf(in any) (keys <-chan byte, restore func(), err error) {
	f, ok := terminalOf(in)
	if !ok {
		return nil, func() {}, nil
	}
	fd := int(f.Fd())
	woken, wake, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("prepare the terminal: %w", err), woken.Close(), wake.Close())
	}
	out := make(chan byte, 16)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(out)
		readKeys(fd, int(woken.Fd()), out)
	})
	return out, sync.OnceFunc(func() {
		_ = wake.Close()
		wg.Wait()
		_ = woken.Close()
		_ = term.Restore(fd, before)
	}), nil
}

// readKeys reads a terminal until another file can be read, too: nothing else ends a read
// of a terminal. What is typed later is left to whoever reads next.
func readKeys(fd, end int, out chan<- byte) {
	for buf := make([]byte, 1); ; {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(end), Events: unix.POLLIN}} //nolint:gosec // file descriptors
		if _, err := unix.Poll(ready, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil || ready[1].Revents != 0 {
			return
		}
		if n, err := unix.Read(fd, buf); err != nil || n == 0 {
			return
		}
		select {
		case out <- buf[0]:
		default: // somebody leans on the keyboard
		}
	}
}

// quits reports whether a key ends what a terminal shows: q, Ctrl-C or Ctrl-D.
func quits(key byte) bool { return key == 'q' || key == 'Q' || key == 3 || key == 4 }
