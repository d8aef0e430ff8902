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
			name:  "the primary has died, and only its standbys have noticed",
			state: steady(), view: see(primary(), standby("n2", cut), standby("n3", cut)),
			want: summary{
				failover.LevelNoWrites, "blocked: n1 may have died: by what they say themselves, nothing streams from it to n2, n3",
				map[pgcluster.NodeID]string{"n1": "open", "n2": "cut off", "n3": "cut off"},
				nil,
			},
		},
		{
			name:  "one standby does not stream, whatever the primary says, and the other is not asked",
			state: steady(), view: see(primary(), standby("n2", cut)),
			want: summary{
				failover.LevelDegraded, "open",
				map[pgcluster.NodeID]string{"n1": "open", "n2": "cut off", "n3": "silent"},
				map[pgcluster.NodeID]string{"n1": "writes wait until it or 1 more of n2, n3 return", "n2": "writes wait until a standby streams"},
			},
		},
		{
			name:  "a witness is no standby that is missing",
			state: with(steady(), func(s *failover.State) { s.Members = append(s.Members, pgcluster.Member{ID: "n4", Witness: true}) }),
			view:  see(primary(), standby("n2"), standby("n3"), report("n4", pgcluster.RoleNone, []change{empty})),
			want: summary{
				failover.LevelOK, "open",
				map[pgcluster.NodeID]string{"n1": "open", "n2": "streaming", "n3": "streaming", "n4": "witness"},
				map[pgcluster.NodeID]string{
					"n1": "one of n2, n3 becomes primary", "n2": "writes go on", "n3": "writes go on", "n4": "writes go on",
				},
			},
		},
		{
			name: "the only other node must not be promoted", view: see(primary(one), standby("n2"), standby("n3", crashed)),
			state: steadyWith(durable(1, "n2"), tagged(map[int]pgcluster.Member{2: {NoFailover: true}})),
			want: summary{
				failover.LevelDegraded, "open",
				map[pgcluster.NodeID]string{"n1": "open", "n2": "streaming", "n3": "crashed"},
				map[pgcluster.NodeID]string{
					"n1": "writes wait until it returns: nobody else may be promoted",
					"n2": "writes wait until a standby streams", "n3": "writes go on",
				},
			},
		},
		{
			name: "it has pledged: blocked, and why", view: see(standby("n2", pledged(2))),
			state: with(with(failing(failover.PhaseRecruit), durable(1, "n2")), tagged(map[int]pgcluster.Member{2: {NoFailover: true}})),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: failover to epoch 2 recruits; a failover needs one of: n1" +
					"; nobody else has all of the WAL of n2, which must not be promoted (nofailover)",
				Nodes: map[pgcluster.NodeID]string{"n1": "silent", "n2": "cut off", "n3": "silent"},
			},
		},
		{
			name: "available, one standby left", state: steadyWith(available, durable(1, "n2")),
			view: see(primary(one), standby("n2"), standby("n3", crashed)),
			want: summary{
				failover.LevelDegraded, "open",
				map[pgcluster.NodeID]string{"n1": "open", "n2": "streaming", "n3": "crashed"},
				map[pgcluster.NodeID]string{
					"n1": "n2 becomes primary", "n2": "writes wait for 2s and go on with fewer standbys", "n3": "writes go on",
				},
			},
		},
		{
			name: "available, alone", state: steadyWith(available, durable(0, "n2", "n3")), view: see(primary(none)),
			want: summary{
				failover.LevelDegraded, "open",
				map[pgcluster.NodeID]string{"n1": "open", "n2": "silent", "n3": "silent"},
				map[pgcluster.NodeID]string{"n1": "writes wait until it returns: no commit waits for another node at present"},
			},
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
			name: "F31 the disk takes no WAL, nor those of the others", state: steady(),
			view: see(primary(stuck), standby("n2", stuck), standby("n3", stuck)),
			want: summary{Level: failover.LevelNoWrites, Writes: "blocked: the disk of n1 has not taken any WAL for 5s", Nodes: whole},
		},
		{
			name: "it is not open yet", state: steady(),
			view: see(primary(func(r *pgcluster.Report) { r.Open = 0 }), standby("n2"), standby("n3")),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: PostgreSQL on n1 is not open to clients",
				Nodes: map[pgcluster.NodeID]string{"n1": "closed", "n2": "streaming", "n3": "streaming"},
			},
		},
		{
			name: "F44 nobody can connect anywhere: degraded at least", state: steady(),
			view: see(primary(refuses), standby("n2", refuses), standby("n3", refuses)),
			want: summary{failover.LevelDegraded, "open", whole, map[pgcluster.NodeID]string{
				"n1": "one of n2, n3 becomes primary", "n2": "writes go on", "n3": "writes go on",
			}},
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
			name: "F19 a quorum lacks two", state: steadyWith(durable(1, "n2", "n3", "n4"), func(s *failover.State) {
				s.Members = append(s.Members, pgcluster.Member{ID: "n4"})
			}),
			view: silent(see(standby("n2", deaf)), primary(), 9*time.Second),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: the primary n1 is silent; a failover needs n1, or 2 of: n3, n4",
				Nodes: map[pgcluster.NodeID]string{"n1": "silent", "n2": "streaming", "n3": "silent", "n4": "silent"},
			},
		},
		{
			name: "silent, and nobody waited", state: steadyWith(durable(0, "n2", "n3")),
			view: silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), 9*time.Second),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: the primary n1 is silent; no commit waited for another node, so only n1 has everything",
				Nodes: map[pgcluster.NodeID]string{"n1": "silent", "n2": "streaming", "n3": "streaming"},
			},
		},
		{
			name: "silent, and who is there must not be promoted", state: steadyWith(durable(1, "n2"), tagged(map[int]pgcluster.Member{2: {NoFailover: true}})),
			view: silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), 9*time.Second),
			want: summary{
				Level: failover.LevelNoWrites, Writes: "blocked: the primary n1 is silent; nobody else that is there may be promoted (nofailover)",
				Nodes: map[pgcluster.NodeID]string{"n1": "silent", "n2": "streaming", "n3": "streaming"},
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

// A node that the zone of the primary keeps out of the sync set is as good as it will get.
func TestExplain_spare(t *testing.T) {
	t.Parallel()
	zoned := tagged(map[int]pgcluster.Member{1: {Zone: "a"}, 2: {Zone: "a"}, 3: {Zone: "b"}})
	whole := see(primary(), standby("n2"), standby("n3"))
	for name, tt := range map[string]struct {
		state failover.State
		view  failover.View
		want  bool
	}{
		"its zone is that of the primary": {steadyWith(zoned, durable(1, "n3")), whole, true},
		"it is in the sync set":           {steadyWith(zoned), whole, false},
		"without zones":                   {steadyWith(durable(1, "n3")), whole, false},
		"it is needed": {
			steadyWith(zoned, durable(1, "n3")),
			see(primary(func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }), standby("n2"), standby("n3")), false,
		},
		"it does not stream": {
			steadyWith(zoned, durable(1, "n3")),
			see(primary(func(r *pgcluster.Report) { r.Senders = r.Senders[1:] }), standby("n2", cut), standby("n3")), false,
		},
	} {
		tt.view.Streamed["n3"] = 0
		n := failover.Explain(tt.state, tt.view, policy).Nodes[1]
		if n.Spare != tt.want || tt.want != (len(n.Notes) > 0) {
			t.Errorf("%s: spare is %v, notes %q; want %v", name, n.Spare, n.Notes, tt.want)
		}
	}
}
