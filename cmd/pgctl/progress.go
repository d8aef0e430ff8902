package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/failover"
)

// progress tells what a change is at: a line for each step when it begins. In a
// terminal that line goes on counting until the step has ended.
type progress struct {
	w    io.Writer
	size func() (columns, lines int) // nil: no terminal

	at    time.Duration // when the step shown last began, since the change began
	text  string        // of that step; "" before the first
	since time.Time     // when it was shown
	shown int           // steps of an operation, shown so far
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := terminalOf(w); ok {
		p.size = terminalSize(f)
	}
	return p
}

// elapsed shows in nine characters how long something took: in milliseconds, unless
// nobody would want them.
func elapsed(d time.Duration) string {
	if d >= 1000*time.Second {
		return fmt.Sprintf("%7d s", d/time.Second)
	}
	return fmt.Sprintf("%6d ms", d.Milliseconds())
}

// shortly is elapsed without the blanks in front.
func shortly(d time.Duration) string { return strings.TrimLeft(elapsed(d), " ") }

// step ends the step before and begins another one, at so long after the change began.
func (p *progress) step(at time.Duration, text string) {
	p.finish(at - p.at)
	p.at, p.text, p.since = at, text, time.Now()
	if p.size == nil {
		words := append(strings.Fields(text), "")
		words[0] = elapsed(at) + "  " + words[0]
		var b strings.Builder
		wrap(&b, strings.Repeat(" ", len("999999 ms  ")), words[:max(1, len(words)-1)]...)
		fmt.Fprint(p.w, b.String())
		return
	}
	p.tick()
}

// steps tells of each step of an operation once, also of those that passed unseen.
func (p *progress) steps(op failover.Operation, steps []failover.PhaseTime) {
	for _, s := range steps[min(p.shown, len(steps)):] {
		p.step(s.At.Sub(op.Began), stepName(s, op.Epoch))
		p.shown++
	}
}

// stepName is a phase, with whose turn it is, and with its epoch if that is another one
// than expected.
func stepName(s failover.PhaseTime, epoch uint64) string {
	text := strings.TrimRight(string(s.Phase)+" "+string(s.Node), " ")
	if s.Epoch != epoch {
		text += fmt.Sprintf(" (epoch %d)", s.Epoch)
	}
	return text
}

// tick counts on.
func (p *progress) tick() {
	if p.size != nil && p.text != "" {
		p.line("… " + shortly(time.Since(p.since)))
	}
}

// finish leaves the line of the last step behind, with how long that took; of the last
// of all, which takes no time, without.
func (p *progress) finish(took time.Duration) {
	if p.size == nil || p.text == "" {
		return
	}
	note := ""
	if took > 0 {
		note = shortly(took)
	}
	p.line(note)
	fmt.Fprintln(p.w)
	p.text = ""
}

// end leaves the last line as it is.
func (p *progress) end() {
	if p.size != nil && p.text != "" {
		fmt.Fprintln(p.w)
		p.text = ""
	}
}

// line draws the step over what its line shows, and never beyond it.
func (p *progress) line(took string) {
	columns, _ := p.size()
	head := elapsed(p.at) + "  "
	text := cut(p.text, max(8, columns-len(head)-len("  … ")-len("999999 ms")-1))
	fmt.Fprint(p.w, "\r"+strings.TrimRight(fmt.Sprintf("%s%-24s  %s", head, text, took), " ")+escClearLine)
}
