package failover_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	one := func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }
	none := func(r *pgcluster.Report) { r.Senders = nil }
	type summary struct {
		Level  failover.Level
		Writes string
		Nodes  map[pgcluster.NodeID]string
		IfDies map[pgcluster.NodeID]string
	}
	whole := map[pgcluster.NodeID]string{"n1": "open", "n2": "streaming", "n3": "streaming"}
	tests := []struct {
		name  string
		state failover.State
		view  failover.View
		want  summary
	}{
		{
			name: "all is well", state: steady(), view: see(primary(), standby("n2"), standby("n3")),
			want: summary{failover.LevelOK, "open", whole, map[pgcluster.NodeID]string{
				"n1": "one of n2, n3 becomes primary", "n2": "writes go on", "n3": "writes go on",
			}},
		},
		{
			name: "F16 a standby is silent: degraded", state: steady(), view: see(primary(one), standby("n2")),
			want: summary{
				failover.LevelDegraded, "open",
				map[pgcluster.NodeID]string{"n1": "open", "n2": "streaming", "n3": "silent"},
				map[pgcluster.NodeID]string{
					"n1": "writes wait until it or 1 more of n2, n3 return",
					"n2": "writes wait until a standby streams",
				},
			},
		},
		{
			name:  "a standby has left the set: the other one's loss is not survived",
			state: with(steady(), func(s *failover.State) { s.Sync.Durable = anyOne("n2") }),
			view:  see(primary(one), standby("n2"), standby("n3", crashed)),
			want: summary{
				failover.LevelDegraded, "open",
				map[pgcluster.NodeID]string{"n1": "open", "n2": "streaming", "n3": "crashed"},
				map[pgcluster.NodeID]string{
					"n1": "n2 becomes primary, and writes wait for a second node",
					"n2": "writes wait until a standby streams", "n3": "writes go on",
				},
			},
		},
		{
			name: "F12 no standby streams", state: steady(), view: see(primary(none), standby("n2"), standby("n3")),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: n1 waits for 1 of n2, n3 to stream",
				Nodes: map[pgcluster.NodeID]string{"n1": "open", "n2": "cut off", "n3": "cut off"},
			},
		},
		{
			name: "F6 only the primary's xpd is silent", state: steady(),
			view: silent(see(standby("n2"), standby("n3")), primary(), 5*time.Second),
			want: summary{
				failover.LevelDegraded, "open",
				map[pgcluster.NodeID]string{"n1": "silent", "n2": "streaming", "n3": "streaming"},
				map[pgcluster.NodeID]string{"n2": "writes go on", "n3": "writes go on"},
			},
		},
		{
			name: "F19 recruiting lacks nodes: they are named", state: failing(failover.PhaseRecruit),
			view: see(standby("n2", pledged(2))),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: failover to epoch 2 recruits; a failover needs one of: n1, n3",
				Nodes: map[pgcluster.NodeID]string{"n1": "silent", "n2": "cut off", "n3": "silent"},
			},
		},
		{
			name: "the barrier waits", state: failing(failover.PhaseBarrier, chose("n2", "n3")),
			view: see(promoted(), primary(crashed)),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: failover of n2 waits until a standby streams; silent: n3",
				Nodes: map[pgcluster.NodeID]string{"n1": "crashed", "n2": "closed", "n3": "silent"},
			},
		},
		{
			name: "not started yet", state: failover.State{Members: steady().Members}, view: see(standby("n1", empty)),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: the cluster has not started yet; waiting for n2, n3",
				Nodes: map[pgcluster.NodeID]string{"n1": "empty", "n2": "silent", "n3": "silent"},
			},
		},
		{
			name: "the checkpoint of a switchover stops nobody", state: switching(failover.PhaseCheckpoint),
			view: see(primary(), standby("n2"), standby("n3")),
			want: summary{failover.LevelOK, "open", whole, map[pgcluster.NodeID]string{
				"n1": "one of n2, n3 becomes primary", "n2": "writes go on", "n3": "writes go on",
			}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := failover.Explain(tt.state, tt.view, policy)
			got := summary{Level: s.Level, Writes: s.Writes, Nodes: map[pgcluster.NodeID]string{}}
			for _, n := range s.Nodes {
				got.Nodes[n.ID] = n.State
			}
			for _, l := range s.IfDies {
				if got.IfDies == nil {
					got.IfDies = map[pgcluster.NodeID]string{}
				}
				got.IfDies[l.Node] = l.Outcome
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Explain() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExplain_gap(t *testing.T) {
	t.Parallel()
	at := func(lsn pgcluster.LSN) change {
		return func(r *pgcluster.Report) { r.PositionKnown, r.Position.LSN = true, lsn }
	}
	tests := []struct {
		name          string
		primary, here pgcluster.LSN
		want          int64
	}{
		{"behind", 100, 58, 42},
		{"ahead of what was heard of the primary", 58, 100, 0},
		{"further than a number of bytes goes", math.MaxUint64, 0, math.MaxInt64},
	}
	for _, tt := range tests {
		s := failover.Explain(steady(), see(primary(at(tt.primary)), standby("n2", at(tt.here))), policy)
		if got := []int64{s.Nodes[0].Gap, s.Nodes[1].Gap, s.Nodes[2].Gap}; !slices.Equal(got, []int64{0, tt.want, -1}) {
			t.Errorf("%s: gaps = %v, want 0, %d and unknown", tt.name, got, tt.want)
		}
	}
}
