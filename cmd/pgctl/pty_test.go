package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pty is a terminal of which the test is the screen and the keyboard.
type pty struct {
	t      *testing.T
	master *os.File
	slave  *os.File // what a program sees

	mu    sync.Mutex
	shown strings.Builder
	news  chan struct{} // closed and replaced whenever something was shown
}

func newPTY(t *testing.T, columns, lines uint16) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	raw := int(master.Fd())
	if err := unix.IoctlSetPointerInt(raw, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(raw, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(raw, unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns}); err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, master: master, slave: slave, news: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.read()
	}()
	t.Cleanup(func() {
		slave.Close() // ends the read
		<-done
		master.Close()
	})
	return p
}

func (p *pty) read() {
	for buf := make([]byte, 4096); ; {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.shown.Write(buf[:n])
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// output is all that was shown so far.
func (p *pty) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.String()
}

// await returns once what was shown contains want.
func (p *pty) await(want string) {
	p.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		p.mu.Lock()
		shown, news := p.shown.String(), p.news
		p.mu.Unlock()
		if strings.Contains(shown, want) {
			return
		}
		select {
		case <-news:
		case <-timeout:
			p.t.Fatalf("%q was never shown; shown:\n%q", want, shown)
		}
	}
}

func (p *pty) press(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// A terminal is drawn over in place, and given back as it was.
func TestWatch_terminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	url := serve(t, healthy(t))
	for _, tt := range []struct{ name, noColor, keys, want string }{
		{"q", "", "q", "\x1b[1;32mok\x1b[0m: writes are open"},
		{"Ctrl-C, no colour", "1", "\x03", "ok: writes are open"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			p := newPTY(t, 80, 30)
			before, err := term.GetState(int(p.slave.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				done <- run(t.Context(), []string{"--server", url, "status", "-w"}, p.slave, p.slave, p.slave)
			}()
			p.await("\x1b[?25l")
			p.await(tt.want)
			p.press(tt.keys)
			if err := <-done; err != nil {
				t.Errorf("run() = %v", err)
			}
			p.await(escLeave + "ok: writes are open") // the last status stays
			after, err := term.GetState(int(p.slave.Fd()))
			if err != nil || *before != *after {
				t.Errorf("the terminal was not given back: %v", err)
			}
			if shown := p.output(); tt.noColor != "" && strings.Contains(shown, "\x1b[1;") {
				t.Errorf("NO_COLOR is set, and colours are shown: %q", shown)
			}
		})
	}
}

// In a terminal a phase counts on in its own line.
func TestProgress_terminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	p := newPTY(t, 60, 30)
	pr := newProgress(p.slave)
	pr.step(0, "checkpoint")
	pr.tick()
	pr.step(13*time.Millisecond, "stop")
	pr.step(78*time.Millisecond, "a step with a name that is much too long for one line of a terminal")
	pr.finish(1500 * time.Millisecond)
	p.await("1500 ms")
	shown := p.output()
	for _, want := range []string{
		"\r     0 ms  checkpoint                … 0 ms\x1b[K",
		"\r     0 ms  checkpoint                13 ms\x1b[K\r\n",
		"\r    13 ms  stop                      65 ms\x1b[K\r\n",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q was not shown in %q", want, shown)
		}
	}
	for line := range strings.SplitSeq(shown, escClearLine) {
		if n := len([]rune(strings.Trim(line, "\r\n"))); n >= 60 {
			t.Errorf("%d columns in a terminal of 60: %q", n, line)
		}
	}
}

// Elsewhere a step is told of once, in lines that fit.
func TestProgress_file(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	pr := newProgress(&out)
	pr.step(0, "checkpoint")
	pr.tick()
	pr.step(1_500_000*time.Millisecond, "n4: copying the data of n1, which is 1234567 MB, of which 345678 MB are here already")
	pr.finish(time.Second)
	const want = "     0 ms  checkpoint\n" +
		"   1500 s  n4: copying the data of n1, which is 1234567 MB, of which 345678 MB\n" +
		"           are here already\n"
	if out.String() != want {
		t.Errorf("shown:\n%s\nwant:\n%s", out.String(), want)
	}
}

// TERM=dumb is written to as a file is.
func TestTerminalOf_dumb(t *testing.T) { //nolint:paralleltest // it sets the environment
	p := newPTY(t, 80, 30)
	for kind, want := range map[string]bool{"dumb": false, "": false, "xterm": true} {
		t.Setenv("TERM", kind)
		if _, ok := terminalOf(p.slave); ok != want {
			t.Errorf("TERM=%s: terminal %v, want %v", kind, ok, want)
		}
	}
	if _, ok := terminalOf(&strings.Builder{}); ok {
		t.Error("a builder is no terminal")
	}
}

// ownTerminal makes its standard input a program's controlling terminal.
func ownTerminal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true, Setctty: true} }
