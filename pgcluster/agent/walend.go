package agent

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Fields of the header of a record, XLogRecord. Its length is never split between pages.
const (
	recordHeader = 24
	recordPrev   = 8 // offset of the 64 bits: where the record before begins
	recordInfo   = 16
	recordRmgr   = 17
	recordSum    = 20   // of all that follows the header, and of the header up to here
	walSwitch    = 0x40 // info of resource manager 0: the rest of the segment is empty
)

// walPages reads pages of WAL, of one timeline.
type walPages struct {
	dir  string
	t    pgcluster.Timeline
	size uint64 // of a segment

	file  *os.File
	of    uint64 // number of file's segment
	at    uint64
	page  [walPage]byte
	valid bool // page is that of at
}

// load reads the page that starts at page and reports whether it was written.
func (w *walPages) load(page uint64) bool {
	if w.valid && w.at == page {
		return true
	}
	w.valid = false
	if n := page / w.size; w.file == nil || w.of != n {
		w.close()
		f, err := os.Open(filepath.Join(w.dir, segment{timeline: w.t, number: n, size: w.size}.name()))
		if err != nil {
			return false
		}
		w.file, w.of = f, n
	}
	if _, err := w.file.ReadAt(w.page[:], int64(page%w.size)); err != nil { //nolint:gosec // at most 1 GB
		return false
	}
	w.at, w.valid = page, binary.NativeEndian.Uint64(w.page[8:]) == page
	return w.valid
}

func (w *walPages) close() {
	if w.file != nil {
		_ = w.file.Close() // it was only read
		w.file = nil
	}
}

// header reads the header of the record at p, which may reach into the next page.
func (w *walPages) header(p uint64) (h [recordHeader]byte, ok bool) {
	if !w.load(p / walPage * walPage) {
		return h, false
	}
	n := copy(h[:], w.page[p%walPage:])
	if n < recordHeader {
		next := (p/walPage + 1) * walPage
		if !w.load(next) {
			return h, false
		}
		copy(h[n:], w.page[w.afterHeader(next)-next:])
	}
	return h, true
}

// afterHeader returns where the contents begin of the page that p is the start of; or p.
func (w *walPages) afterHeader(p uint64) uint64 {
	switch {
	case p%w.size == 0:
		return p + longPageHeader
	case p%walPage == 0:
		return p + shortPageHeader
	default:
		return p
	}
}

// record reports whether the record at p is there as it was made.
func (w *walPages) record(p uint64, length uint32) bool {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	var head [recordHeader]byte
	var sum uint32
	for seen := 0; seen < int(length); {
		page := p / walPage * walPage
		if !w.load(page) {
			return false
		}
		p = w.afterHeader(p)
		part := w.page[p-page:]
		part = part[:min(len(part), int(length)-seen)]
		n := copy(head[min(seen, recordHeader):], part)
		sum = crc32.Update(sum, castagnoli, part[n:])
		seen += len(part)
		p += uint64(len(part))
	}
	sum = crc32.Update(sum, castagnoli, head[:recordSum])
	return sum == binary.NativeEndian.Uint32(head[recordSum:])
}

// endOfWAL returns where the last record ends of the WAL of a timeline that has a record
// at start: it looks for it as recovery does. It is not known if there is WAL beyond what
// can be followed.
func endOfWAL(dir string, t pgcluster.Timeline, start pgcluster.LSN, size uint64) (pgcluster.LSN, bool) {
	w := &walPages{dir: dir, t: t, size: size}
	defer w.close()
	p := w.afterHeader(uint64(start))
	var end, prev uint64
	for {
		limit := p // of what may have been written
		h, ok := w.header(p)
		length := binary.NativeEndian.Uint32(h[:])
		follows := prev == 0 || binary.NativeEndian.Uint64(h[recordPrev:]) == prev
		if ok && follows && length >= recordHeader {
			limit = uint64(recordEnd(pgcluster.LSN(p), length, size))
			if w.record(p, length) {
				end, prev, p = limit, p, w.afterHeader(limit)
				if h[recordRmgr] == 0 && h[recordInfo]&0xF0 == walSwitch {
					p = w.afterHeader((limit + size - 1) / size * size)
				}
				continue
			}
		}
		beyond := (limit + walPage - 1) / walPage * walPage
		return pgcluster.LSN(end), end != 0 && !w.load(beyond)
	}
}
