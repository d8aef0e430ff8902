package pgcluster_test

import (
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestSyncSet(t *testing.T) {
	t.Parallel()
	var none pgcluster.SyncSet
	s := pgcluster.SyncSet{K: 1}.With("n3").With("n2").With("n3")
	if got, want := s.Names(), "ANY 1 (n2, n3)"; got != want {
		t.Errorf("Names() = %q, want %q", got, want)
	}
	if none.Names() != "" || none.String() != "none" || none.Quorum() != 1 {
		t.Error("the empty rule has names, or a quorum of its members")
	}
	less := s.Without("n2")
	if !s.Has("n2") || less.Has("n2") {
		t.Error("Without() changed the set that it was called on, or kept the member")
	}
	if !s.Contains(less) || less.Contains(s) || s.Equal(less) || !s.Equal(less.With("n2")) {
		t.Error("Contains() or Equal() is wrong for a set and its subset")
	}
}

func TestParseSyncSet(t *testing.T) {
	t.Parallel()
	for _, want := range []pgcluster.SyncSet{
		{}, {Members: []pgcluster.NodeID{"n2"}, K: 1}, {Members: []pgcluster.NodeID{"n1", "n2", "n3", "n4"}, K: 2},
	} {
		got, ok := pgcluster.ParseSyncSet(want.Names())
		if !ok || !got.Equal(want) {
			t.Errorf("ParseSyncSet(%q) = %v, %t", want.Names(), got, ok)
		}
	}
	for _, names := range []string{"n1", "*", "FIRST 1 (n1)", "1 (n1)", "ANY 0 (n1)", "ANY x (n1)", "ANY 1 (n1", "ANY 1 n1)", "ANY 1 (n1,n2) "} {
		if got, ok := pgcluster.ParseSyncSet(names); ok {
			t.Errorf("ParseSyncSet(%q) = %v, want a refusal", names, got)
		}
	}
}

// Any quorum of recruits shares a member with any K that acknowledged, and leaves
// fewer than K to acknowledge more: for every size, every K and every choice.
func TestSyncSet_quorumIntersects(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 7; n++ {
		for k := 1; k <= n; k++ {
			s := pgcluster.SyncSet{K: k, Members: make([]pgcluster.NodeID, n)}
			q := s.Quorum()
			for acked := range 1 << n {
				for recruited := range 1 << n {
					if bits(acked) != k || bits(recruited) != q {
						continue
					}
					if acked&recruited == 0 {
						t.Fatalf("n=%d k=%d: %b acknowledged and %b recruited share nobody", n, k, acked, recruited)
					}
					if left := n - bits(recruited); left >= k {
						t.Fatalf("n=%d k=%d: %d members are left to acknowledge", n, k, left)
					}
				}
			}
		}
	}
}

func bits(x int) int {
	n := 0
	for ; x != 0; x &= x - 1 {
		n++
	}
	return n
}
