package failover_test

import (
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestStep_setAside(t *testing.T) {
	t.Parallel()
	older := pgcluster.SetAside{At: noon, From: pgcluster.Position{Timeline: 1, LSN: 90}, To: 100, Bytes: 10, Path: "/a"}
	newer := older
	newer.At, newer.To, newer.Path = noon.Add(time.Second), 0, "/b"
	see := func(kept ...pgcluster.SetAside) failover.View {
		return see(primary(), standby("n2", func(r *pgcluster.Report) { r.SetAside = kept }), standby("n3"))
	}
	s := steady()
	s.Aside = map[pgcluster.NodeID]time.Time{"n9": noon}
	s, _ = failover.Step(s, see(older), policy)
	again, _ := failover.Step(s, see(older), policy)
	if len(s.History) != 1 || len(again.History) != 1 {
		t.Fatalf("%d events, and %d when it is reported again, want 1", len(s.History), len(again.History))
	}
	e := s.History[0]
	if want := "10 bytes of WAL from 1:0/5A to 0/64 that the cluster never had are kept in /a"; e.Kind != "set aside" || e.Node != "n2" || e.Reason != want || e.SetAside == nil {
		t.Errorf("event %+v, want that %s", e, want)
	}
	s, _ = failover.Step(again, see(older, newer), policy)
	if len(s.History) != 2 || s.History[1].SetAside.Path != "/b" {
		t.Errorf("history %+v, want the newer one added", s.History)
	}
	if len(s.Aside) != 1 {
		t.Errorf("State remembers %v, want members only", s.Aside)
	}

	back := newer
	back.At, back.Path = noon.Add(-time.Hour), "/c" // the node's clock has stepped back
	s, _ = failover.Step(s, see(older, newer, back), policy)
	s, _ = failover.Step(s, see(older, newer, back), policy)
	if len(s.History) != 3 || s.History[2].SetAside.Path != "/c" {
		t.Errorf("history %+v, want what a clock that stepped back calls older", s.History)
	}
	s, _ = failover.Step(s, see(newer), policy) // the others were moved away
	if len(s.History) != 3 {
		t.Errorf("history %+v, want no event for what stays", s.History)
	}
}
