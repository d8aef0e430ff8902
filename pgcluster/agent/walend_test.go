package agent

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

// written is the WAL of two segments, from the LSN of the size of one.
type written struct {
	wal      []byte
	at, prev uint64 // of the next record and the last
}

const smallSegment = 1 << 20

func newWritten() *written {
	w := &written{wal: make([]byte, 2*smallSegment), at: smallSegment}
	for range 3 {
		w.put(100, 0)
	}
	return w
}

// put appends a record with so many bytes after its header.
func (w *written) put(size int, info byte) {
	record := make([]byte, recordHeader+size)
	for i := range record {
		record[i] = byte(i)
	}
	binary.NativeEndian.PutUint32(record, uint32(len(record)))
	binary.NativeEndian.PutUint64(record[recordPrev:], w.prev)
	record[recordInfo], record[recordRmgr] = info, 0
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum(record[recordHeader:], castagnoli)
	binary.NativeEndian.PutUint32(record[recordSum:], crc32.Update(sum, castagnoli, record[:recordSum]))
	for i, b := range record {
		if w.at%walPage == 0 {
			w.begin()
		}
		if i == 0 {
			w.prev = w.at
		}
		w.wal[w.at-smallSegment] = b
		w.at++
	}
	w.at = (w.at + 7) &^ 7
}

// begin writes the header of a page.
func (w *written) begin() {
	page := w.wal[w.at-smallSegment:]
	binary.NativeEndian.PutUint64(page[8:], w.at)
	if w.at%smallSegment == 0 {
		w.at += longPageHeader
	} else {
		w.at += shortPageHeader
	}
}

func (w *written) save(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range uint64(2) {
		s := segment{timeline: 1, number: i + 1, size: smallSegment}
		if err := os.WriteFile(filepath.Join(dir, s.name()), w.wal[i*smallSegment:][:smallSegment], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestEndOfWAL(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		more  func(w *written) (end uint64)
		known bool
	}{
		{"few records", func(w *written) uint64 { return w.at }, true},
		{"records of all sizes, into the next segment", func(w *written) uint64 {
			for size := range 500 {
				w.put(7*size, 0)
			}
			return w.at
		}, true},
		{"the rest of a segment is empty", func(w *written) uint64 {
			w.put(0, walSwitch)
			w.at = 2 * smallSegment
			w.put(10, 0)
			return w.at
		}, true},
		{"half a record", func(w *written) uint64 {
			end := w.at
			w.put(3*walPage, 0)
			clear(w.wal[end-smallSegment+walPage:])
			return end
		}, true},
		{"a record that was not written as it was made", func(w *written) uint64 {
			end := w.at
			w.put(50, 0)
			w.wal[end-smallSegment+40]++
			return end
		}, true},
		{"a record that was here before", func(w *written) uint64 {
			end := w.at
			w.prev = 77
			w.put(50, 0)
			return end
		}, true},
		{"a hole", func(w *written) uint64 {
			end := w.at
			w.put(50, 0)
			w.put(walPage, 0)
			w.wal[end-smallSegment]++
			return end
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWritten()
			want := tt.more(w)
			got, known := endOfWAL(w.save(t), 1, smallSegment, smallSegment)
			if uint64(got) != want || known != tt.known {
				t.Errorf("endOfWAL() = %v, known: %t; want %v, known: %t", got, known, pgcluster.LSN(want), tt.known)
			}
		})
	}
}
