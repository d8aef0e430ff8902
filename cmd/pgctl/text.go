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

// sentence wraps formatted text.
func sentence(b *strings.Builder, indent, format string, args ...any) {
	words := strings.Fields(fmt.Sprintf(format, args...))
	if len(words) > 0 && strings.HasPrefix(format, indent) {
		words[0] = indent + words[0]
	}
	wrap(b, indent, words...)
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
