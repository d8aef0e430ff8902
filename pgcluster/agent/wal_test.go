package agent

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestRouteTo(t *testing.T) {
	t.Parallel()
	one := pgcluster.Lineage{{Parent: 1, At: 100, Child: 2}}
	two := pgcluster.Lineage{{Parent: 1, At: 100, Child: 2}, {Parent: 2, At: 200, Child: 3}}
	skipping := pgcluster.Lineage{{Parent: 1, At: 100, Child: 3}}
	at := func(t pgcluster.Timeline, l pgcluster.LSN) pgcluster.Position {
		return pgcluster.Position{Timeline: t, LSN: l}
	}
	tests := []struct {
		name            string
		upstream, local pgcluster.Lineage
		end             pgcluster.Position
		want            route
	}{
		{"first timeline, no switch", nil, nil, at(1, 500), routeFollow},
		{"behind the switch", one, nil, at(1, 99), routeFollow},
		{"exactly at the switch", one, nil, at(1, 100), routeFollow},
		{"one byte past the switch", one, nil, at(1, 101), routeRewind},
		{"on the new timeline already", one, one, at(2, 300), routeFollow},
		{"two switches behind", two, nil, at(1, 100), routeFollow},
		{"past the second switch", two, one, at(2, 201), routeRewind},
		{"on a timeline that the upstream skipped", skipping, one, at(2, 150), routeRewind},
		{"timeline 2 left elsewhere", two, pgcluster.Lineage{{Parent: 1, At: 90, Child: 2}}, at(2, 150), routeClone},
		{"timeline 2 left elsewhere, and past the switch", two, pgcluster.Lineage{{Parent: 1, At: 90, Child: 2}}, at(2, 250), routeClone},
		{"history not there yet", one, nil, at(2, 150), routeFollow},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := routeTo(tt.upstream, tt.local, tt.end); got != tt.want {
				t.Errorf("routeTo() = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestDivergence(t *testing.T) {
	t.Parallel()
	base := pgcluster.Lineage{{Parent: 1, At: 100, Child: 2}}
	tests := []struct {
		name            string
		upstream, local pgcluster.Lineage
		want            pgcluster.Position
		parted          bool
	}{
		{"the upstream left our timeline", base, nil, pgcluster.Position{Timeline: 1, LSN: 100}, true},
		{"we left the upstream's", nil, base, pgcluster.Position{Timeline: 1, LSN: 100}, true},
		{"both left, we first", pgcluster.Lineage{{Parent: 1, At: 100, Child: 3}}, pgcluster.Lineage{{Parent: 1, At: 90, Child: 2}}, pgcluster.Position{Timeline: 1, LSN: 90}, true},
		{"equal", base, base, pgcluster.Position{Timeline: 2}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, parted := divergence(tt.upstream, tt.local)
			if got != tt.want || parted != tt.parted {
				t.Errorf("divergence() = %v, %v, want %v, %v", got, parted, tt.want, tt.parted)
			}
		})
	}
}

func TestRecordEnd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		start  pgcluster.LSN
		length uint32
		want   pgcluster.LSN
	}{
		{"padded to eight bytes", 0x2000028, 114, 0x20000a0},
		{"ends with the page", 0x2001f88, 120, 0x2002000},
		{"crosses a page header", 0x2001fc0, 114, 0x2002000 + 24 + 56},
		{"crosses into the next segment", 0x2ffffc0, 114, 0x3000000 + 40 + 56},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := recordEnd(tt.start, tt.length, 16<<20); got != tt.want {
				t.Errorf("recordEnd(%v, %d) = %v, want %v", tt.start, tt.length, got, tt.want)
			}
		})
	}
}

func TestSegment_nameRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []segment{{1, 1, 16 << 20}, {2, 255, 16 << 20}, {2, 256, 16 << 20}, {0x1f, 0x123456, 16 << 20}, {3, 1025, 4 << 20}} {
		got, ok := parseSegment(want.name(), want.size)
		if !ok || got != want {
			t.Errorf("parseSegment(%q) = %v, %v, want %v", want.name(), got, ok, want)
		}
	}
	if got := segmentOf(3, 0x1_0300_0000, 16<<20).name(); got != "000000030000000100000003" {
		t.Errorf("name = %s", got)
	}
	for _, bad := range []string{"00000002.history", "00000001000000000000000G", "000000010000000000000001.partial"} {
		if _, ok := parseSegment(bad, 16<<20); ok {
			t.Errorf("parseSegment(%q) accepts it", bad)
		}
	}
}

// TestTimelineAt has a segment that was recycled under the new timeline's name: its
// pages are old, so it does not count.
func TestTimelineAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page := func(timeline pgcluster.Timeline, number uint64, at pgcluster.LSN) {
		t.Helper()
		s := segment{timeline: timeline, number: number, size: 16 << 20}
		f, err := os.OpenFile(filepath.Join(dir, s.name()), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var header [longPageHeader]byte
		binary.NativeEndian.PutUint64(header[8:], uint64(at))
		if uint64(at)%s.size == 0 {
			binary.NativeEndian.PutUint16(header[2:], longHeaderFlag)
			binary.NativeEndian.PutUint32(header[headerSegmentSize:], uint32(s.size))
		}
		if _, err := f.WriteAt(header[:], int64(uint64(at)%s.size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "000000010000000000000001"), make([]byte, 64), 0o600); err != nil {
		t.Fatal(err) // made in advance, and not begun
	}
	page(1, 3, 0x3000000)
	page(1, 3, 0x3002000)
	page(2, 3, 0x3000000)
	page(3, 3, 0x1000000) // recycled

	for at, want := range map[pgcluster.LSN]pgcluster.Timeline{0x3001000: 2, 0x3002100: 1, 0x3002000: 2, 0x4000000: 2} {
		got, err := timelineAt(dir, at)
		if err != nil || got != want {
			t.Errorf("timelineAt(%v) = %d, %v, want %d", at, got, err, want)
		}
	}
	for _, at := range []pgcluster.LSN{0, 0x3004001, 0x4000001} {
		if got, err := timelineAt(dir, at); err == nil {
			t.Errorf("timelineAt(%v) = %d, want an error", at, got)
		}
	}
}

func TestParseHistory(t *testing.T) {
	t.Parallel()
	got, err := parseHistory(5, "1\t0/3000060\tno recovery target specified\n\n2\t16/B374D848\tno recovery target specified\n")
	if err != nil {
		t.Fatal(err)
	}
	want := pgcluster.Lineage{{Parent: 1, At: 0x3000060, Child: 2}, {Parent: 2, At: 0x16_b374_d848, Child: 5}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parseHistory() (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"1", "x\t0/1", "1\tx"} {
		if _, err := parseHistory(2, bad); err == nil {
			t.Errorf("parseHistory(%q) accepts it", bad)
		}
	}
}
