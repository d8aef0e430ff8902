package pgcluster_test

import (
	"encoding/json"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "1/", "/1", "1/G", "100000000/0", "", "-1/0", "+1/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := pgcluster.ParseLSN(s)
		if err != nil {
			return
		}
		again, err := pgcluster.ParseLSN(l.String())
		if err != nil || again != l {
			t.Errorf("ParseLSN(%q) = %s, which parses as %s, %v", s, l, again, err)
		}
	})
}

func TestLSN_JSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(pgcluster.Position{Timeline: 2, LSN: 0x16_B374D848})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b), `{"timeline":2,"lsn":"16/B374D848"}`; got != want {
		t.Errorf("Marshal() = %s, want %s", got, want)
	}
	var p pgcluster.Position
	if err := json.Unmarshal(b, &p); err != nil || p.LSN != 0x16_B374D848 {
		t.Errorf("Unmarshal() = %v, %v", p, err)
	}
	if err := json.Unmarshal([]byte(`{"lsn":"nonsense"}`), &p); err == nil {
		t.Error("Unmarshal() of a bad LSN = nil, want an error")
	}
}

func TestLineage(t *testing.T) {
	t.Parallel()
	// Timeline 1 was left at 100 for 2, which was left at 200 for 5.
	l := pgcluster.Lineage{{Parent: 1, At: 100, Child: 2}, {Parent: 2, At: 200, Child: 5}}
	tests := []struct {
		name string
		at   pgcluster.Position
		want bool
	}{
		{"before the first switch", pgcluster.Position{Timeline: 1, LSN: 99}, true},
		{"at the first switch", pgcluster.Position{Timeline: 1, LSN: 100}, true},
		{"past the first switch", pgcluster.Position{Timeline: 1, LSN: 101}, false},
		{"between the switches", pgcluster.Position{Timeline: 2, LSN: 150}, true},
		{"past the second switch", pgcluster.Position{Timeline: 2, LSN: 201}, false},
		{"on the current timeline", pgcluster.Position{Timeline: 5, LSN: 9999}, true},
		{"on a timeline of its own", pgcluster.Position{Timeline: 3, LSN: 1}, false},
	}
	for _, tt := range tests {
		if got := l.Holds(tt.at); got != tt.want {
			t.Errorf("%s: Holds(%s) = %t, want %t", tt.name, tt.at, got, tt.want)
		}
	}
	if got := l.Current(); got != 5 {
		t.Errorf("Current() = %d, want 5", got)
	}
	if !l.Has(1) || !l.Has(2) || !l.Has(5) || l.Has(3) {
		t.Error("Has() does not tell the timelines of the chain from others")
	}
	var first pgcluster.Lineage
	if got := first.Current(); got != 1 || !first.Has(1) || !first.Holds(pgcluster.Position{Timeline: 1, LSN: 7}) {
		t.Error("an empty lineage is not timeline 1")
	}
}

func TestPosition_Compare(t *testing.T) {
	t.Parallel()
	more := pgcluster.Position{Timeline: 1, LSN: 200}
	later := pgcluster.Position{Timeline: 2, LSN: 100}
	if more.Compare(later) <= 0 {
		t.Error("a later timeline with less WAL counts as more")
	}
	if later.Compare(pgcluster.Position{Timeline: 1, LSN: 100}) <= 0 {
		t.Error("of equal LSNs the later timeline is not ahead")
	}
}
