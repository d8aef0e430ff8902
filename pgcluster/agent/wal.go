package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Sizes that initdb gives every cluster of ours.
const (
	segmentSize = 16 << 20
	walPage     = 8192
)

// Sizes of headers in WAL files.
const (
	longPageHeader  = 40 // at the start of a segment
	shortPageHeader = 24
)

// segment is one file of WAL.
type segment struct {
	timeline pgcluster.Timeline
	number   uint64
}

func segmentOf(t pgcluster.Timeline, at pgcluster.LSN) segment {
	return segment{timeline: t, number: uint64(at) / segmentSize}
}

// name returns the file's name.
func (s segment) name() string {
	const perID = 1 << 32 / segmentSize
	return fmt.Sprintf("%08X%08X%08X", s.timeline, s.number/perID, s.number%perID)
}

func (s segment) start() pgcluster.LSN { return pgcluster.LSN(s.number * segmentSize) }

func parseSegment(name string) (segment, bool) {
	if len(name) != 24 {
		return segment{}, false
	}
	var part [3]uint64
	for i := range part {
		n, err := strconv.ParseUint(name[i*8:i*8+8], 16, 32)
		if err != nil {
			return segment{}, false
		}
		part[i] = n
	}
	const perID = 1 << 32 / segmentSize
	//nolint:gosec // parsed as 32 bits
	return segment{timeline: pgcluster.Timeline(part[0]), number: part[1]*perID + part[2]}, true
}

// segments lists the segments in a folder, in no useful order.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list WAL: %w", err)
	}
	var all []segment
	for _, e := range entries {
		if s, ok := parseSegment(e.Name()); ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// written reports whether the page that holds at has been written in s. PostgreSQL
// renames old segments for later use, so that a file's name alone proves nothing.
func (s segment) written(dir string, at pgcluster.LSN) bool {
	f, err := os.Open(filepath.Join(dir, s.name()))
	if err != nil {
		return false
	}
	defer f.Close()
	page := uint64(at) / walPage * walPage
	var header [16]byte
	if _, err := f.ReadAt(header[:], int64(page%segmentSize)); err != nil {
		return false
	}
	return binary.NativeEndian.Uint64(header[8:]) == page
}

// timelineAt returns the timeline of the WAL that ends at end: the highest one that
// has it. In recovery PostgreSQL 15 has no function that says so. A segment that
// was switched away from ends in zeros; of such ones the first page has to do.
func timelineAt(dir string, end pgcluster.LSN) (pgcluster.Timeline, error) {
	if end == 0 {
		return 0, errors.New("no WAL yet")
	}
	all, err := segments(dir)
	if err != nil {
		return 0, err
	}
	last := end - 1
	var begun, found pgcluster.Timeline
	for _, s := range all {
		if s.number != uint64(last)/segmentSize || !s.written(dir, s.start()) {
			continue
		}
		begun = max(begun, s.timeline)
		if s.written(dir, last) {
			found = max(found, s.timeline)
		}
	}
	if found == 0 && end%segmentSize == 0 {
		found = begun
	}
	if found == 0 {
		return 0, fmt.Errorf("no WAL file holds %s", end)
	}
	return found, nil
}

// endOfRecord returns where the record that begins at start ends, including
// PostgreSQL's padding and a page header that it may cross.
func endOfRecord(dir string, t pgcluster.Timeline, start pgcluster.LSN) (pgcluster.LSN, error) {
	f, err := os.Open(filepath.Join(dir, segmentOf(t, start).name()))
	if err != nil {
		return 0, fmt.Errorf("read WAL record %s: %w", start, err)
	}
	defer f.Close()
	var length [4]byte
	if _, err := f.ReadAt(length[:], int64(uint64(start)%segmentSize)); err != nil {
		return 0, fmt.Errorf("read WAL record %s: %w", start, err)
	}
	return recordEnd(start, binary.NativeEndian.Uint32(length[:])), nil
}

func recordEnd(start pgcluster.LSN, length uint32) pgcluster.LSN {
	at, left := uint64(start), uint64(length)
	for {
		room := walPage - at%walPage
		if left <= room {
			at += left
			break
		}
		left -= room
		at += room
		if at%segmentSize == 0 {
			at += longPageHeader
		} else {
			at += shortPageHeader
		}
	}
	return pgcluster.LSN((at + 7) &^ 7)
}

// readLineage reads the history of a timeline. A history that is not there yet is
// empty, like that of timeline 1.
func (a *Agent) readLineage(t pgcluster.Timeline) (pgcluster.Lineage, error) {
	if t <= 1 {
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(a.p.wal(), fmt.Sprintf("%08X.history", t)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read timeline history: %w", err)
	}
	return parseHistory(t, string(b))
}

// parseHistory reads lines of "parent, tab, LSN, tab, reason".
func parseHistory(t pgcluster.Timeline, content string) (pgcluster.Lineage, error) {
	var l pgcluster.Lineage
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("timeline history %d: line %q", t, line)
		}
		parent, err := parseTimeline(fields[0], 10)
		if err != nil {
			return nil, fmt.Errorf("timeline history %d: %w", t, err)
		}
		at, err := pgcluster.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("timeline history %d: %w", t, err)
		}
		if len(l) > 0 {
			l[len(l)-1].Child = parent
		}
		l = append(l, pgcluster.Switch{Parent: parent, At: at, Child: t})
	}
	return l, nil
}

// route is how a data directory gets onto an upstream's lineage.
type route int

const (
	routeFollow route = iota + 1 // its WAL is the beginning of the upstream's
	routeRewind                  // it went its own way after a common beginning
	routeClone                   // timelines with one number and two meanings
)

// routeTo compares the end of local WAL and its lineage with the upstream's. A
// local lineage that is unknown is taken to be right: streaming checks it again.
func routeTo(upstream, local pgcluster.Lineage, end pgcluster.Position) route {
	_, left := upstream.Left(end.Timeline)
	onChain := left || end.Timeline == upstream.Current()
	known := end.Timeline <= 1 || len(local) > 0
	switch {
	case onChain && known && !slices.Equal(local, leadingTo(upstream, end.Timeline)):
		return routeClone
	case upstream.Holds(end):
		return routeFollow
	default:
		return routeRewind
	}
}

// leadingTo returns the part of l that leads to t.
func leadingTo(l pgcluster.Lineage, t pgcluster.Timeline) pgcluster.Lineage {
	for i, s := range l {
		if s.Parent == t {
			return l[:i]
		}
	}
	return l
}

// divergence returns the last common timeline of two lineages and where they part
// on it. Of equal lineages it is the current timeline and false.
func divergence(upstream, local pgcluster.Lineage) (pgcluster.Position, bool) {
	i := 0
	for i < len(upstream) && i < len(local) && upstream[i] == local[i] {
		i++
	}
	switch {
	case i < len(upstream) && i < len(local):
		return pgcluster.Position{Timeline: upstream[i].Parent, LSN: min(upstream[i].At, local[i].At)}, true
	case i < len(upstream):
		return pgcluster.Position{Timeline: upstream[i].Parent, LSN: upstream[i].At}, true
	case i < len(local):
		return pgcluster.Position{Timeline: local[i].Parent, LSN: local[i].At}, true
	default:
		return pgcluster.Position{Timeline: upstream.Current()}, false
	}
}
