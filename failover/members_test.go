package failover_test

import (
	"errors"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// hosts gives every member an address of its own.
func hosts(s *failover.State) {
	for i := range s.Members {
		s.Members[i].Host, s.Members[i].HTTPPort, s.Members[i].RaftPort, s.Members[i].PGPort = string(s.Members[i].ID), 1, 2, 3
	}
}

func TestChangesOfMembers(t *testing.T) {
	t.Parallel()
	type request func(failover.State, failover.View) (failover.State, error)
	add := func(m pgcluster.Member) request {
		return func(s failover.State, v failover.View) (failover.State, error) {
			return failover.AddMember(s, v, policy, m)
		}
	}
	remove := func(id pgcluster.NodeID) request {
		return func(s failover.State, v failover.View) (failover.State, error) {
			return failover.RemoveMember(s, v, policy, id)
		}
	}
	change := func(id pgcluster.NodeID, tag func(*pgcluster.Member)) request {
		return func(s failover.State, v failover.View) (failover.State, error) {
			m, _ := s.Member(id)
			tag(&m)
			return failover.ChangeMember(s, v, policy, m)
		}
	}
	n4 := pgcluster.Member{ID: "n4", Host: "n4", HTTPPort: 1, RaftPort: 2, PGPort: 3}
	pair := func(s *failover.State) { s.Members = s.Members[:2] }
	witnessed := steadyWith(pair, durable(1, "n2"), func(s *failover.State) {
		s.Members = append(s.Members, pgcluster.Member{ID: "n3", Witness: true})
	})
	witness := report("n3", pgcluster.RoleNone, nil)
	five := steadyWith(func(s *failover.State) {
		s.Members = append(s.Members, pgcluster.Member{ID: "n4"}, pgcluster.Member{ID: "n5"})
		s.Settings.K = 1
	})
	paused := until(noon, steady())
	for _, tt := range []struct {
		name    string
		state   failover.State
		view    failover.View // all three stream, if not given
		request request
		want    []pgcluster.Member // beside n1, which stays; nil if refused
		refused string
	}{
		{name: "add", state: steady(), request: add(n4), want: []pgcluster.Member{{ID: "n2"}, {ID: "n3"}, {ID: "n4"}}},
		{
			name: "add a name that is taken", state: steady(), request: add(pgcluster.Member{ID: "n2", Host: "x"}),
			refused: "refused: there is a node n2 already",
		},
		{
			name: "add an address that is taken", state: steady(), refused: "refused: n2 uses address n2:3 already",
			request: add(pgcluster.Member{ID: "n4", Host: "n2", HTTPPort: 3, RaftPort: 4, PGPort: 5}),
		},
		{
			name: "add what is no name", state: steady(), request: add(pgcluster.Member{ID: "N 4"}),
			refused: `refused: node name "N 4": want a lower-case letter, then up to 30 lower-case letters, digits or underscores`,
		},
		{
			name: "add an eighth", request: add(pgcluster.Member{ID: "n9", Host: "n9"}),
			state: steadyWith(func(s *failover.State) {
				for _, id := range []pgcluster.NodeID{"n4", "n5", "n6", "n7"} {
					s.Members = append(s.Members, pgcluster.Member{ID: id})
				}
			}),
			refused: "refused: there are 7 nodes with a PostgreSQL already",
		},
		{
			name: "add while the primary changes", state: failing(failover.PhaseRecruit), request: add(n4),
			refused: "refused: a failover is under way (phase recruit)",
		},
		{name: "remove", state: steady(), request: remove("n3"), want: []pgcluster.Member{{ID: "n2"}, {ID: "n3", Leaving: true}}},
		{
			name: "remove the primary", state: steady(), request: remove("n1"),
			refused: "refused: n1 is primary: switch over to another node first",
		},
		{name: "remove nobody", state: steady(), request: remove("n8"), refused: `refused: there is no node "n8"`},
		{
			name: "remove the last standby", state: steadyWith(pair), request: remove("n2"),
			refused: "refused: a commit must be on 2 nodes, and only 1 would be left for that",
		},
		{
			name: "remove the last standby, which need not be waited for", state: steadyWith(pair, available), request: remove("n2"),
			want: []pgcluster.Member{{ID: "n2", Leaving: true}},
		},
		{
			name: "remove whom commits wait for, while nobody else streams", state: steadyWith(durable(1, "n2")), request: remove("n2"),
			view:    see(primary(func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }), standby("n2")),
			refused: "refused: commits wait for n2, and of the others (n3) only 0 of the 1 that are needed stream: bring one back or add one first",
		},
		{
			name: "let no commit wait for it: the same", state: steadyWith(durable(1, "n2")),
			view:    see(primary(func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }), standby("n2")),
			request: change("n2", func(m *pgcluster.Member) { m.NoSync = true }),
			refused: "refused: commits wait for n2, and of the others (n3) only 0 of the 1 that are needed stream: bring one back or add one first",
		},
		{
			name: "remove it while the primary is silent", state: steadyWith(durable(1, "n2")), request: remove("n2"),
			view:    silent(see(standby("n2")), primary(), 2*time.Second),
			refused: "refused: commits wait for n2, and the primary n1 does not report who else streams",
		},
		{
			name: "remove who is lost and not waited for", state: steadyWith(durable(1, "n2")), request: remove("n3"),
			view: see(primary(func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }), standby("n2")),
			want: []pgcluster.Member{{ID: "n2"}, {ID: "n3", Leaving: true}},
		},
		{
			name: "a paused cluster: nobody would let it go", state: paused, request: remove("n3"),
			refused: "refused: the cluster is paused, so that no node is taken in or let go: pgctl resume first",
		},
		{
			name: "a paused cluster: nobody would take it in", state: paused, request: add(n4),
			refused: "refused: the cluster is paused, so that no node is taken in or let go: pgctl resume first",
		},
		{
			name: "remove a witness that the majority rests on", state: witnessed, view: see(primary(), witness), request: remove("n3"),
			refused: "refused: Raft would need 2 of the 2 nodes that are left without n3, and 1 of them answer (silent: n2): " +
				"bring one of those back or remove it first, or add a node or a witness (pgctl node add)",
		},
		{
			name: "remove a witness that is dead", state: witnessed, view: see(primary(), standby("n2")), request: remove("n3"),
			want: []pgcluster.Member{{ID: "n2"}, {ID: "n3", Witness: true, Leaving: true}},
		},
		{
			name: "remove one of three that answer, of five", state: five, request: remove("n3"),
			refused: "refused: Raft would need 3 of the 4 nodes that are left without n3, and 2 of them answer (silent: n4, n5): " +
				"bring one of those back or remove it first, or add a node or a witness (pgctl node add)",
		},
		{
			name: "remove one of two that are dead, of five", state: five, request: remove("n4"),
			want: []pgcluster.Member{{ID: "n2"}, {ID: "n3"}, {ID: "n4", Leaving: true}, {ID: "n5"}},
		},
		{
			name: "remove who is lost after a recovery: two of four answer", state: five, request: remove("n4"),
			view: see(primary(), standby("n2")),
			want: []pgcluster.Member{{ID: "n2"}, {ID: "n3"}, {ID: "n4", Leaving: true}, {ID: "n5"}},
		},
		{
			name: "remove one that answers, once the dead are on their way", request: remove("n3"),
			state: steadyWith(func(s *failover.State) {
				s.Members = append(s.Members, pgcluster.Member{ID: "n4", Leaving: true}, pgcluster.Member{ID: "n5", Leaving: true})
			}),
			want: []pgcluster.Member{{ID: "n2"}, {ID: "n3", Leaving: true}, {ID: "n4", Leaving: true}, {ID: "n5", Leaving: true}},
		},
		{
			name: "remove again", request: remove("n3"), refused: "refused: n3 is being removed already",
			state: steadyWith(tagged(map[int]pgcluster.Member{3: {Leaving: true}})),
		},
		{
			name: "change tags", state: steady(), want: []pgcluster.Member{{ID: "n2", Zone: "a", Priority: 3, NoFailover: true}, {ID: "n3"}},
			request: change("n2", func(m *pgcluster.Member) { m.Zone, m.Priority, m.NoFailover = "a", 3, true }),
		},
		{
			name: "change an address", state: steady(), refused: "refused: only the tags of n2 can change: remove it and add another",
			request: change("n2", func(m *pgcluster.Member) { m.Host = "elsewhere" }),
		},
		{
			name: "let no commit wait for the last", state: steadyWith(pair),
			request: change("n2", func(m *pgcluster.Member) { m.NoSync = true }),
			refused: "refused: a commit must be on 2 nodes, and only 1 would be left for that",
		},
		{
			name: "let nobody be promoted", state: steadyWith(tagged(map[int]pgcluster.Member{1: {NoFailover: true}, 3: {NoFailover: true}})),
			request: change("n2", func(m *pgcluster.Member) { m.NoFailover = true }),
			refused: "refused: no node would be left that may be promoted",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hosts(&tt.state)
			if tt.view.Reports == nil {
				tt.view = see(primary(), standby("n2"), standby("n3"))
			}
			got, err := tt.request(tt.state, tt.view)
			if tt.refused != "" {
				if _, ok := errors.AsType[*failover.RefusedError](err); !ok || err.Error() != tt.refused {
					t.Errorf("error is %v, want %q", err, tt.refused)
				}
				return
			}
			if err != nil || len(got.Members) != len(tt.want)+1 || got.Settings.Version != 1 || len(got.History) != 1 {
				t.Fatalf("%v: members %+v, version %d, history %v; want %d members, one version and one event more",
					err, got.Members, got.Settings.Version, got.History, len(tt.want)+1)
			}
			for i, m := range tt.want {
				m.Host, m.HTTPPort, m.RaftPort, m.PGPort = string(m.ID), 1, 2, 3
				if got.Members[i+1] != m {
					t.Errorf("member %+v, want %+v", got.Members[i+1], m)
				}
			}
		})
	}
}

// A member that is removed, dead or not, ceases to be waited for, and is then
// forgotten; k follows when the cluster gets smaller.
func TestRemoveMember_dead(t *testing.T) {
	t.Parallel()
	s := steady()
	s.Members = append(s.Members, pgcluster.Member{ID: "n4"})
	s.Sync.Durable = pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2", "n3", "n4"}, K: 2}
	hosts(&s)
	up := primary(func(r *pgcluster.Report) { r.SyncNames = s.Sync.Durable.Names() })
	v := see(up, standby("n2"), standby("n3"))
	v.Streamed["n4"] = v.Now - time.Hour
	s, err := failover.RemoveMember(s, v, policy, "n4")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for range 20 {
		next, orders := failover.Step(s, v, policy)
		for _, o := range orders {
			if o.Kind == pgcluster.OrderLead { // carried out at once
				up.SyncNames, up.Order.SyncSeq = o.Sync.Names(), o.SyncSeq
				v.Reports["n1"] = failover.Observation{Report: up, At: now}
			}
		}
		s = next
		if _, there := s.Member("n4"); !there && s.Sync.Durable.Has("n4") {
			t.Fatalf("n4 is forgotten while failovers recruit by %s", s.Sync.Durable)
		}
	}
	for _, e := range s.History {
		kinds = append(kinds, e.Kind)
	}
	if _, there := s.Member("n4"); there || !s.Sync.Durable.Equal(anyOne("n2", "n3")) || s.Settings.Version != 2 {
		t.Errorf("state %+v after %v, want n4 gone, one of two others to wait for, and two versions", s, kinds)
	}
}

// Whoever is on its way out but has what all others lack becomes primary, and stays.
func TestStep_leavingIsPromotedAtLast(t *testing.T) {
	t.Parallel()
	s := with(failing(failover.PhaseRecruit), tagged(map[int]pgcluster.Member{2: {Leaving: true}}))
	v := see(standby("n2", pledged(2), at(101)), standby("n3", pledged(2)))
	if next, _ := failover.Step(s, v, policy); next.Op.Phase != failover.PhaseRecruit {
		t.Errorf("phase %s at once, want %s", next.Op.Phase, failover.PhaseRecruit)
	}
	next, _ := failover.Step(s, waited(v, time.Second), policy)
	if next.Op.To != "n2" {
		t.Fatalf("%q is promoted, want n2", next.Op.To)
	}
	next.Op.Phase = failover.PhaseBarrier
	next.Sync.Seq = 1
	opened, _ := failover.Step(next, see(promoted(func(r *pgcluster.Report) { r.SyncNames = next.Op.Sync.Names() })), policy)
	if m, _ := opened.Member("n2"); m.Leaving || opened.Primary.Node != "n2" || opened.Op != nil {
		t.Errorf("%+v of %+v, want n2 open and staying", m, opened.Primary)
	}
}
