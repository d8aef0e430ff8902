package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// width is what a terminal shows in one line.
const width = 80

// wrap writes words in lines of at most width, if no word is longer; lines after
// the first begin with indent.
func wrap(b *strings.Builder, indent string, words ...string) {
	column := 0
	for i, w := range words {
		n := utf8.RuneCountInString(w)
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(w)
		column += n
	}
	b.WriteByte('\n')
}

// sentence wraps formatted text, and keeps the blanks that format begins with.
func sentence(b *strings.Builder, indent, format string, args ...any) {
	words := strings.Fields(fmt.Sprintf(format, args...))
	if len(words) > 0 {
		words[0] = format[:len(format)-len(strings.TrimLeft(format, " "))] + words[0]
	}
	wrap(b, indent, words...)
}

// narrow lets a column have fewer characters than it wants, down to least. What it holds
// is then cut with …, and is said in full elsewhere.
type narrow struct {
	column, least int
	cut           func(s string, n int) string
}

// table writes rows in columns, as wide as they must be. Where they do not fit a line,
// columns are made narrower, one after the other.
func table(b *strings.Builder, rows [][]string, narrower ...narrow) {
	const gap = 2
	var widths []int
	for _, row := range rows {
		widths = append(widths, make([]int, max(0, len(row)-len(widths)))...)
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	over := gap*(len(widths)-1) - width
	for _, w := range widths {
		over += w
	}
	cutters := map[int]func(string, int) string{}
	for _, n := range narrower {
		less := min(max(0, over), max(0, widths[n.column]-n.least))
		widths[n.column] -= less
		over -= less
		cutters[n.column] = n.cut
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if cut, ok := cutters[i]; ok {
				cell = cut(cell, widths[i])
			}
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+gap))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// cut shortens a line to n columns.
func cut(line string, n int) string {
	if utf8.RuneCountInString(line) <= n {
		return line
	}
	return string([]rune(line)[:max(0, n-1)]) + "…"
}

// shorten cuts s in the middle, because names differ at their ends, to n characters.
func shorten(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	head := max(0, n-1) / 3
	return string(runes[:head]) + "…" + string(runes[len(runes)-max(0, n-1-head):])
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// bytes shows a size in at most seven characters.
func bytes(n int64) string {
	const unit = 1024
	switch {
	case n < 0:
		return "?"
	case n < unit:
		return fmt.Sprintf("%d B", n)
	case n < unit*unit:
		return fmt.Sprintf("%d kB", n/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%d MB", n/unit/unit)
	default:
		return fmt.Sprintf("%d GB", n/unit/unit/unit)
	}
}

// duration shows in at most five characters how long something took or is ago.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "?"
	case d < 100*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}
