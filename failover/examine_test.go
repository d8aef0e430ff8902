package failover_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// threeVote is the Raft group of steady, led by n2.
func threeVote() failover.Group {
	return failover.Group{Leader: "n2", Confirmed: true, Servers: []failover.Server{
		{ID: "n1", Voter: true}, {ID: "n2", Voter: true}, {ID: "n3", Voter: true},
	}}
}

// well is a change that gives a report what an examination asks for beyond a role.
func well(r *pgcluster.Report) { r.LeaseLeft, r.Wall = 3*time.Second, examined }

var examined = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

func TestExamine(t *testing.T) {
	t.Parallel()
	off := func(d time.Duration) change { return func(r *pgcluster.Report) { r.Wall = examined.Add(d) } }
	free := func(mb uint64) change {
		return func(r *pgcluster.Report) {
			r.Disks = []pgcluster.Disk{
				{Use: "data", Path: "/pg", Free: mb << 20, Total: 1000 << 20},
				{Use: "wal", Path: "/pg/pg_wal", Free: mb << 20, Total: 1000 << 20},
			}
		}
	}
	all := func() failover.View { return see(primary(well), standby("n2", well), standby("n3", well)) }
	n3 := func(c ...change) failover.View {
		return see(primary(well), standby("n2", well), standby("n3", append([]change{well}, c...)...))
	}
	n1 := func(c ...change) failover.View {
		return see(primary(append([]change{well}, c...)...), standby("n2", well), standby("n3", well))
	}
	group := func(edit func(*failover.Group)) failover.Group {
		g := threeVote()
		edit(&g)
		return g
	}
	tests := []struct {
		name  string
		state failover.State
		view  failover.View
		group failover.Group
		want  []string
	}{
		{"all is well", steady(), all(), threeVote(), nil},
		{
			"no leader", steady(), all(), group(func(g *failover.Group) { g.Leader, g.Confirmed = "", false }),
			[]string{"XPD-D002 critical"},
		},
		{
			"a standby is lost", steady(), see(primary(well, func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }), standby("n2", well)), threeVote(),
			[]string{"XPD-D003 warning", "XPD-D008 warning n3", "XPD-D009 warning n1", "XPD-D009 warning n2"},
		},
		{
			"the primary and a standby are lost", steady(), see(standby("n2", well, cut)), threeVote(),
			[]string{"XPD-D001 critical", "XPD-D003 critical", "XPD-D008 warning n1", "XPD-D008 warning n2", "XPD-D008 warning n3"},
		},
		{
			"one does not vote", steady(), all(), group(func(g *failover.Group) { g.Servers[2].Voter = false }),
			[]string{"XPD-D003 warning", "XPD-D004 warning n3"},
		},
		{"the leader is on the primary", steady(), all(), group(func(g *failover.Group) { g.Leader = "n1" }), []string{"XPD-D005 warning n1"}},
		{
			"paused", with(steady(), func(s *failover.State) { s.Paused = &failover.Pause{Until: examined.Add(time.Hour), Reason: "cables"} }), all(), threeVote(),
			[]string{"XPD-D006 warning"},
		},
		{
			"paused while the primary is down",
			with(steady(), func(s *failover.State) { s.Paused = &failover.Pause{Until: examined.Add(time.Hour), Reason: "cables"} }),
			see(primary(well, crashed), standby("n2", well, cut), standby("n3", well, cut)), threeVote(),
			[]string{"XPD-D001 critical", "XPD-D007 critical", "XPD-D006 warning", "XPD-D008 warning n1", "XPD-D008 warning n2", "XPD-D008 warning n3"},
		},
		{
			"far behind", steady(), see(
				primary(well, func(r *pgcluster.Report) { r.Position.LSN = 17<<20 + 100 }),
				standby("n2", well, func(r *pgcluster.Report) { r.Position.LSN = 17<<20 + 100 }), standby("n3", well)), threeVote(),
			[]string{"XPD-D010 warning n3"},
		},
		{
			"16 MB behind", steady(), see(
				primary(well, func(r *pgcluster.Report) { r.Position.LSN = 16<<20 + 100 }),
				standby("n2", well, func(r *pgcluster.Report) { r.Position.LSN = 16<<20 + 100 }), standby("n3", well)), threeVote(),
			nil,
		},
		{"replays slowly", steady(), n1(func(r *pgcluster.Report) { r.Senders[1].ReplayLag = 11 * time.Second }), threeVote(), []string{"XPD-D011 warning n3"}},
		{"10 % free", steady(), n3(free(100)), threeVote(), nil},
		{"less than 10 % free", steady(), n3(free(99)), threeVote(), []string{"XPD-D012 warning n3"}},
		{"5 % free", steady(), n3(free(50)), threeVote(), []string{"XPD-D012 warning n3"}},
		{"less than 5 % free", steady(), n3(free(49)), threeVote(), []string{"XPD-D012 critical n3"}},
		{
			"nobody can connect", steady(), n3(func(r *pgcluster.Report) { r.ConnectStalled = 2 * time.Second }), threeVote(),
			[]string{"XPD-D013 critical n3"},
		},
		{"the disk hangs", steady(), n3(func(r *pgcluster.Report) { r.WriteStalled = 5 * time.Second }), threeVote(), []string{"XPD-D014 critical n3"}},
		{"no lease", steady(), n3(func(r *pgcluster.Report) { r.LeaseLeft = 0 }), threeVote(), []string{"XPD-D015 warning n3"}},
		{
			"configuration", steady(), n1(func(r *pgcluster.Report) {
				r.Pending, r.Refused, r.Overrides = []string{"max_connections"}, []string{"work_mem: bad"}, []string{"fsync"}
				r.Weak, r.LogicalSlots = []string{"role app"}, []string{"cdc"}
			}), threeVote(),
			[]string{"XPD-D016 warning n1", "XPD-D017 warning n1", "XPD-D018 warning n1", "XPD-D019 warning n1", "XPD-D020 warning n1"},
		},
		{
			"WAL set aside", steady(), n3(func(r *pgcluster.Report) {
				r.SetAside = []pgcluster.SetAside{{At: examined, Bytes: 1, Path: "/aside/1"}}
			}), threeVote(),
			[]string{"XPD-D021 notice n3"},
		},
		{"a clock is a second off", steady(), n3(off(-time.Second)), threeVote(), nil},
		{"a clock is late", steady(), n3(off(-1100 * time.Millisecond)), threeVote(), []string{"XPD-D026 warning n3"}},
		{"the primary's clock is early", steady(), n1(off(time.Minute)), threeVote(), []string{"XPD-D026 warning n1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.view.Wall = examined
			var got []string
			for _, f := range failover.Examine(tt.state, tt.view, failover.DefaultPolicy(), tt.group) {
				got = append(got, strings.TrimSpace(string(f.Code)+" "+string(f.Severity)+" "+string(f.Node)))
				if f.Problem == "" || f.Do == "" {
					t.Errorf("%s says %q, do %q", f.Code, f.Problem, f.Do)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// Nobody is told to start a node again that was removed a moment ago.
func TestExamine_removed(t *testing.T) {
	t.Parallel()
	g := threeVote()
	g.Servers = append(g.Servers, failover.Server{ID: "n4", Voter: true})
	v := see(primary(well), standby("n2", well), standby("n3", well))
	got := failover.Examine(steady(), v, failover.DefaultPolicy(), g)
	if len(got) != 1 || got[0].Code != failover.CodeFewVoters || !strings.HasPrefix(got[0].Do, "wait: n4 was removed") {
		t.Errorf("found %+v, want that n4 votes yet, and to wait", got)
	}
}

// A witness has no disk, no lease and no PostgreSQL to be found fault with.
func TestExamine_witness(t *testing.T) {
	t.Parallel()
	s := with(steady(), func(s *failover.State) { s.Members = append(s.Members, pgcluster.Member{ID: "n4", Witness: true}) })
	v := see(primary(well), standby("n2", well), standby("n3", well), report("n4", pgcluster.RoleNone, []change{empty}))
	if got := failover.Examine(s, v, failover.DefaultPolicy(), threeVote()); len(got) > 0 {
		t.Errorf("found %+v, want nothing", got)
	}
}

func TestLookAndCompare(t *testing.T) {
	t.Parallel()
	s, p := steady(), failover.DefaultPolicy()
	v := see(primary(well), standby("n2", well), standby("n3", well))
	lost := map[pgcluster.NodeID]time.Duration{"n1": 0, "n2": 0, "n3": 0}
	one := failover.Look("n1", s, v, p, threeVote(), lost)
	two := failover.Look("n2", s, silent(v, standby("n3", well), 4*time.Second), p, threeVote(), map[pgcluster.NodeID]time.Duration{"n1": 6 * time.Second})
	if diff := cmp.Diff([]failover.Peer{{Node: "n1", Lost: 6 * time.Second}, {Node: "n3", Heard: 4 * time.Second, Lost: -1}}, two.Peers); diff != "" {
		t.Errorf("n2 sees (-want +got):\n%s", diff)
	}
	two.Epoch = 0
	var got []string
	for _, f := range failover.Compare([]pgcluster.NodeID{"n1", "n2", "n3"}, []failover.Sight{one, two}) {
		got = append(got, string(f.Code)+" "+string(f.Node)+" "+f.Problem)
	}
	want := []string{
		"XPD-D024 n1 no node that answers pgctl can connect to its PostgreSQL",
		"XPD-D025 n2 knows of epoch 0, others of 1",
		"XPD-D022 n3 its xpd does not answer pgctl",
		"XPD-D023 n3 its xpd is not heard by n2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}
