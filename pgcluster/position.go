package pgcluster

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a byte position in the write-ahead log of one timeline.
type LSN uint64

// ParseLSN reads PostgreSQL's notation, such as 16/B374D848.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok || len(hi) > 8 || len(lo) > 8 {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers such as 16/B374D848", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers such as 16/B374D848", s)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers such as 16/B374D848", s)
	}
	return LSN(h<<32 | l), nil
}

// String returns PostgreSQL's notation.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint64(l)&0xffffffff) }

// MarshalText writes PostgreSQL's notation, so that JSON shows it too.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads PostgreSQL's notation.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	if err != nil {
		return err
	}
	*l = v
	return nil
}

// Timeline is PostgreSQL's TimeLineID: it grows with every promotion. Zero means
// unknown.
type Timeline uint32

// Position is a point in a lineage of timelines. Positions are compared only
// after their timelines are known to be on one lineage (see Lineage).
type Position struct {
	Timeline Timeline `json:"timeline"`
	LSN      LSN      `json:"lsn"`
}

// String returns "timeline:LSN".
func (p Position) String() string { return fmt.Sprintf("%d:%s", p.Timeline, p.LSN) }

// Compare orders positions of one lineage: by LSN, then by timeline. The LSN
// comes first because a node that has a later timeline's beginning but less WAL
// has less.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.LSN, q.LSN); c != 0 {
		return c
	}
	return cmp.Compare(p.Timeline, q.Timeline)
}

// Switch is where a timeline left its parent: what PostgreSQL writes into a
// .history file.
type Switch struct {
	Parent Timeline `json:"parent"`
	At     LSN      `json:"at"`
	Child  Timeline `json:"child"`
}

// Lineage is the chain of switches that leads to the primary's timeline, oldest
// first. An empty lineage belongs to timeline 1.
type Lineage []Switch

// Current returns the timeline that the lineage ends in.
func (l Lineage) Current() Timeline {
	if len(l) == 0 {
		return 1
	}
	return l[len(l)-1].Child
}

// Has reports whether the chain passes through timeline t or ends in it.
func (l Lineage) Has(t Timeline) bool {
	_, left := l.Left(t)
	return left || t == l.Current()
}

// Holds reports whether a node whose WAL ends at p can follow a primary of this
// lineage without a rewind: p's timeline is on the chain and p is not past the
// point where the chain left that timeline.
func (l Lineage) Holds(p Position) bool {
	if at, left := l.Left(p.Timeline); left {
		return p.LSN <= at
	}
	return p.Timeline == l.Current()
}

// Left returns the LSN at which the lineage left timeline t, or false if it is
// still on t or never was.
func (l Lineage) Left(t Timeline) (LSN, bool) {
	for _, s := range l {
		if s.Parent == t {
			return s.At, true
		}
	}
	return 0, false
}
