package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
)

// screenView fills a terminal.
type screenView struct {
	screen

	servers []string
	every   time.Duration
	keys    bool
	paint   func(text string, code int) string
}

func (v *screenView) seen(w watched) error { return v.tick(w, time.Now()) }

// tick draws everything again: what has not changed is not seen to be.
func (v *screenView) tick(w watched, now time.Time) error {
	var b strings.Builder
	quit := "Ctrl-C ends"
	if v.keys {
		quit = "q ends"
	}
	fmt.Fprintf(&b, "%s   every %s   %s\n", now.UTC().Format(pauseEnd), v.every, quit)
	if w.noAnswer(now) {
		w.sayNoAnswer(&b, now)
	}
	verdict := strings.Count(b.String(), "\n") + 1
	b.WriteByte('\n')
	if !w.answered {
		sentence(&b, "  ", "asking %s", strings.Join(v.servers, ", "))
	} else {
		b.WriteString(statusText(w.cluster))
		if w.cluster.Op != nil && w.err == nil {
			fmt.Fprintf(&b, "\nphase %s for %d ms\n", w.cluster.Op.Phase, now.Sub(w.phase).Milliseconds())
		}
		b.WriteString(eventsText(w))
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	return v.draw(lines, func(i int, line string) string {
		if i == verdict && w.answered {
			return v.paint(line, statusCode(w.cluster))
		}
		return line
	})
}

// noAnswer reports whether it should be said that nobody answers.
func (w watched) noAnswer(now time.Time) bool {
	return now.Sub(w.at) >= unheard || (w.err != nil && !w.answered)
}

func (w watched) sayNoAnswer(b *strings.Builder, now time.Time) {
	then := ""
	if w.answered {
		then = fmt.Sprintf("; what %s said last is UNCONFIRMED", w.cluster.SeenBy)
	}
	sentence(b, "  ", "NO ANSWER for %.1f s%s", now.Sub(w.at).Seconds(), then)
	if w.err != nil {
		line, _, _ := strings.Cut(w.err.Error(), "\n")
		sentence(b, "    ", "  %s", line)
	}
}

// eventsText is what happened last.
func eventsText(w watched) string {
	if len(w.events) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nlast events:\n")
	for _, e := range w.events {
		b.WriteString(eventText(e))
	}
	return b.String()
}

// blocksView writes, where no cursor can be moved, a block whenever something has
// changed that is not just WAL or time going on, and a line for each phase of an
// operation.
type blocksView struct {
	w     io.Writer
	shown string              // what was said last, less what always changes
	op    *failover.Operation // the same of the operation under way
	lost  bool                // it was said that nobody answers
}

func (v *blocksView) tick(watched, time.Time) error { return nil }

func (v *blocksView) seen(w watched) error {
	now := time.Now()
	var b strings.Builder
	switch {
	case w.err != nil && !v.lost && w.noAnswer(now):
		v.lost, v.shown = true, ""
		w.sayNoAnswer(&b, now)
	case w.err == nil:
		v.lost = false
		b.WriteString(v.news(w.cluster))
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := fmt.Fprintf(v.w, "--- %s\n%s", now.UTC().Format("2006-01-02 15:04:05.000Z"), b.String())
	return err
}

// news is what of c was not said yet. Nodes change all the time during an operation:
// of one that is known, only its phases are news.
func (v *blocksView) news(c client.Cluster) string {
	was, key := v.op, significant(c)
	v.op = c.Op
	switch {
	case v.shown != "" && was != nil && c.Op != nil && was.ID == c.Op.ID && was.Epoch == c.Op.Epoch:
		if len(was.Steps) == len(c.Op.Steps) {
			return ""
		}
		var b strings.Builder
		sentence(&b, "  ", "%s to epoch %d: %s", c.Op.Kind, c.Op.Epoch, soFar(*c.Op))
		return b.String()
	case key == v.shown:
		return ""
	}
	v.shown = key
	return statusText(c)
}

// significant is a status less what changes all the time.
func significant(c client.Cluster) string {
	for i, n := range c.Nodes {
		if i == 0 {
			c.Nodes = append(c.Nodes[:0:0], c.Nodes...)
		}
		n.LSN, n.Gap, n.Lag, n.LeaseLeft, n.Age = 0, 0, 0, 0, min(n.Age, 0)
		c.Nodes[i] = n
	}
	c.Floor.LSN, c.SeenBy = 0, ""
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Sprint(c)
	}
	return howLong.ReplaceAllString(string(text), "")
}

// howLong matches how long something has lasted, as notes and reasons tell it.
var howLong = regexp.MustCompile(`\b([0-9]+h)?([0-9]+m)?[0-9.]+m?s\b`)

// linesView writes what every question brought: an object in a line of its own.
type linesView struct{ w io.Writer }

// line is the status as of pgctl status --json with its time, or why there is none.
type line struct {
	At time.Time `json:"at"`
	*client.Cluster
	Error string `json:"error,omitempty"`
}

func (v *linesView) tick(watched, time.Time) error { return nil }

func (v *linesView) seen(w watched) error {
	l := line{At: time.Now().UTC()}
	if w.err != nil {
		l.Error = w.err.Error()
	} else {
		l.Cluster = &w.cluster
	}
	enc := json.NewEncoder(v.w)
	enc.SetEscapeHTML(false)
	return enc.Encode(l)
}
