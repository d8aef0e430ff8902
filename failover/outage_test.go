package failover_test

import (
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestStep_noLeader(t *testing.T) {
	t.Parallel()
	heard := func(leader, before time.Duration) func(*pgcluster.Report) {
		return func(r *pgcluster.Report) { r.LeaderFor, r.Leaderless = leader, before }
	}
	const s = time.Second
	alone := []pgcluster.Report{primary(heard(4*s, 130*s)), standby("n3", heard(3*s, 0))} // n3 was just started
	for name, tt := range map[string]struct {
		reports []pgcluster.Report
		past    []failover.Event
		want    string // the reason begins so; "" no event
	}{
		"two of three were gone, and one is back": {reports: alone, want: "no Raft leader for 2m10s, until 2026-11-21T11:59:56Z: "},
		"none of them heard one, and the first to lose it was n2": {
			reports: []pgcluster.Report{primary(heard(4*s, 20*s)), standby("n2", heard(3*s, 90*s))}, want: "no Raft leader for 20s, ",
		},
		"recorded already":         {reports: alone, past: []failover.Event{{At: noon.Add(-s), Kind: "no leader"}}},
		"there was one before":     {reports: alone, past: []failover.Event{{At: noon.Add(-time.Minute), Kind: "no leader"}}, want: "no Raft leader for 2m10s, "},
		"n2 was cut off alone":     {reports: []pgcluster.Report{primary(heard(9000*s, 0)), standby("n2", heard(4*s, 600*s)), standby("n3", heard(9000*s, 0))}},
		"an election":              {reports: []pgcluster.Report{primary(heard(4*s, 0)), standby("n2", heard(4*s, 0))}},
		"not every node has said":  {reports: []pgcluster.Report{primary(heard(s, 130*s)), standby("n3", heard(s, 0))}},
		"who would have heard one": {reports: []pgcluster.Report{primary(heard(100*s, 130*s)), standby("n2", heard(4*s, 226*s))}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := steady()
			st.History = tt.past
			v := see(tt.reports...)
			v.Wall = noon
			next, _ := failover.Step(st, v, policy)
			got := ""
			for _, e := range next.History[len(tt.past):] {
				if e.Kind == "no leader" {
					got += e.Reason
				}
			}
			if (got == "") != (tt.want == "") || !strings.HasPrefix(got, tt.want) {
				t.Errorf("recorded %q, want %q", got, tt.want)
			}
			again, _ := failover.Step(next, v, policy)
			if len(again.History) != len(next.History) {
				t.Errorf("recorded twice: %+v", again.History)
			}
		})
	}
}
