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

const (
	// newSegmentSize is the bytes of a segment in a cluster of ours: see
	// docs/decisions/wal-segments.md. An adopted one may have another size.
	newSegmentSize = 4 << 20

	walPage = 8192
)

// Sizes of headers in WAL files.
const (
	longPageHeader  = 40 // at the start of a segment
	shortPageHeader = 24
)

// Fields of the header at the start of a segment, XLogLongPageHeaderData.
const (
	longHeaderFlag    = 2  // in the 16 bits at 2
	headerSegmentSize = 32 // offset of the 32 bits
)

// segment is one file of WAL.
type segment struct {
	timeline pgcluster.Timeline
	number   uint64
	size     uint64 // bytes, the same for all of a server
}

func segmentOf(t pgcluster.Timeline, at pgcluster.LSN, size uint64) segment {
	return segment{timeline: t, number: uint64(at) / size, size: size}
}

// name returns the file's name.
func (s segment) name() string {
	perID := 1 << 32 / s.size
	return fmt.Sprintf("%08X%08X%08X", s.timeline, s.number/perID, s.number%perID)
}

func (s segment) start() pgcluster.LSN { return pgcluster.LSN(s.number * s.size) }

// isSegment reports whether a file's name is that of a segment.
func isSegment(name string) bool {
	return len(name) == 24 && strings.Trim(name, "0123456789ABCDEF") == ""
}

func parseSegment(name string, size uint64) (segment, bool) {
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
	//nolint:gosec // parsed as 32 bits
	return segment{timeline: pgcluster.Timeline(part[0]), number: part[1]*(1<<32/size) + part[2], size: size}, true
}

// segments lists the segments in a folder, in no useful order. There are none as long
// as none has a header.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list WAL: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !isSegment(e.Name()) })
	var size uint64
	for _, e := range entries {
		if size = segmentSize(filepath.Join(dir, e.Name())); size > 0 {
			break
		}
	}
	if size == 0 {
		return nil, nil
	}
	var all []segment
	for _, e := range entries {
		if s, ok := parseSegment(e.Name(), size); ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// segmentSize returns what a segment's header says, or 0 if it was never written.
func segmentSize(path string) uint64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	var header [longPageHeader]byte
	if _, err := f.ReadAt(header[:], 0); err != nil || binary.NativeEndian.Uint16(header[2:])&longHeaderFlag == 0 {
		return 0
	}
	size := uint64(binary.NativeEndian.Uint32(header[headerSegmentSize:]))
	if size < 1<<20 || size > 1<<30 || size&(size-1) != 0 {
		return 0
	}
	return size
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
	if _, err := f.ReadAt(header[:], int64(page%s.size)); err != nil { //nolint:gosec // at most 1 GB
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
		if s != segmentOf(s.timeline, last, s.size) || !s.written(dir, s.start()) {
			continue
		}
		begun = max(begun, s.timeline)
		if s.written(dir, last) {
			found = max(found, s.timeline)
		}
	}
	if found == 0 && len(all) > 0 && uint64(end)%all[0].size == 0 {
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
	all, err := segments(dir)
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, fmt.Errorf("read WAL record %s: no WAL", start)
	}
	size := all[0].size
	f, err := os.Open(filepath.Join(dir, segmentOf(t, start, size).name()))
	if err != nil {
		return 0, fmt.Errorf("read WAL record %s: %w", start, err)
	}
	defer f.Close()
	var length [4]byte
	if _, err := f.ReadAt(length[:], int64(uint64(start)%size)); err != nil { //nolint:gosec // at most 1 GB
		return 0, fmt.Errorf("read WAL record %s: %w", start, err)
	}
	return recordEnd(start, binary.NativeEndian.Uint32(length[:]), size), nil
}

func recordEnd(start pgcluster.LSN, length uint32, size uint64) pgcluster.LSN {
	at, left := uint64(start), uint64(length)
	for {
		room := walPage - at%walPage
		if left <= room {
			at += left
			break
		}
		left -= room
		at += room
		if at%size == 0 {
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
