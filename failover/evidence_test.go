package failover_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	stays = `
		n1 open e1 ANY 1 (n2, n3) floor 1:0/A`
	replaced = `
		n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
		failover e2 recruit
		> n1 recruit e2
		> n2 recruit e2
		> n3 recruit e2`
)

// refuses is a PostgreSQL that serves who is connected and lets nobody else in.
func refuses(r *pgcluster.Report) { r.ConnectStalled = 2 * time.Second }

// stuck is one whose disk takes no WAL.
func stuck(r *pgcluster.Report) { r.WriteStalled = 5 * time.Second }

func alone(r *pgcluster.Report) { r.Senders = nil }

func cut(r *pgcluster.Report) { r.Receiver.Streaming = false }

func TestStep_evidence(t *testing.T) {
	t.Parallel()
	apart := func(ago time.Duration, v failover.View) failover.View {
		v.Streamed = map[pgcluster.NodeID]time.Duration{"n2": v.Now - ago, "n3": v.Now - ago}
		return v
	}
	cloning := func(r *pgcluster.Report) { empty(r); r.SystemID = "7" }
	runSteps(t, []stepCase{
		{
			name: "F3 the postmaster is stopped: its sessions live on, but nobody can connect", state: steady(),
			view: see(primary(refuses), standby("n2"), standby("n3")), want: replaced,
		},
		{
			name:  "F8 the only standby that commits wait for is on its way out: better than no primary",
			state: steadyWith(durable(1, "n2"), tagged(map[int]pgcluster.Member{2: {Leaving: true}})),
			view:  silent(see(standby("n2", deaf)), primary(), 2*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2`,
		},
		{
			name: "F3 it hangs, and its xpd was restarted: it has not answered that one yet", state: steady(),
			view: see(primary(hangs, alone, func(r *pgcluster.Report) { r.Process = pgcluster.ProcessStarting }), standby("n2", deaf), standby("n3", deaf)),
			want: replaced,
		},
		{
			name: "F3 for a little less: wait", state: steady(),
			view: see(primary(func(r *pgcluster.Report) { r.ConnectStalled = 1900 * time.Millisecond }), standby("n2"), standby("n3")),
			want: stays,
		},
		{
			name: "F44 nobody can connect to a standby either: all hosts are busy", state: steady(),
			view: see(primary(refuses), standby("n2", refuses), standby("n3")), want: stays,
		},
		{
			name: "F44 a standby answers its own agent slowly: all hosts are busy", state: steady(),
			view: see(primary(refuses), standby("n2"), standby("n3", hangs)), want: stays,
		},
		{
			name: "F19 nobody can connect, and one standby is gone: a failover could not end", state: steady(),
			view: see(primary(refuses), standby("n2")), want: stays,
		},
		{
			name: "F31 the primary's disk takes no WAL", state: steady(),
			view: see(primary(stuck), standby("n2"), standby("n3")), want: replaced,
		},
		{
			name: "F31 the disks of all take no WAL: they share it", state: steady(),
			view: see(primary(stuck), standby("n2", stuck), standby("n3", stuck)), want: stays,
		},
		{
			name: "F31 a standby has more WAL than the primary is said to have: its agent is late", state: steady(),
			view: see(primary(stuck), standby("n2", at(101)), standby("n3")), want: stays,
		},
		{
			name: "F12 cut off from its standbys: it acknowledges nothing, so they go on without it", state: steady(),
			view: apart(3*time.Second, see(primary(alone), standby("n2", cut), standby("n3", cut))), want: replaced,
		},
		{
			name: "F12 one way: standbys are connected and hear nothing", state: steady(),
			view: apart(3*time.Second, see(primary(alone), standby("n2", deaf), standby("n3", deaf))), want: replaced,
		},
		{
			name: "F12 for a little less: wait", state: steady(),
			view: apart(2900*time.Millisecond, see(primary(alone), standby("n2", cut), standby("n3", cut))), want: stays,
		},
		{
			name: "F12 this node slept meanwhile: wait", state: steady(),
			view: func() failover.View {
				v := apart(time.Minute, see(primary(alone), standby("n2", cut), standby("n3", cut)))
				v.Since = v.Now - time.Second
				return v
			}(),
			want: stays,
		},
		{
			name: "F12 a standby still hears it: it is about to stream again", state: steady(),
			view: apart(time.Minute, see(primary(alone), standby("n2", cut), standby("n3"))), want: stays,
		},
		{
			name: "F15 cut off from one standby: it goes on with the other", state: steady(),
			view: apart(3*time.Second, see(primary(func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }), standby("n2", deaf), standby("n3", cut))),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0
				> n1 lead e1 ANY 1 (n2) barrier true open true`,
		},
		{
			name: "both standbys are cloned: they will be back", state: steady(),
			view: apart(time.Minute, see(primary(alone), standby("n2", cloning), standby("n3", cut))),
			want: stays + `
				> n2 follow e1 n1`,
		},
		{
			name: "both standbys are told anew whom to follow: they will be back", state: steady(),
			view: apart(time.Minute, see(primary(alone), standby("n2", cut),
				standby("n3", cut, func(r *pgcluster.Report) { r.Order.Kind = pgcluster.OrderRecruit }))),
			want: stays + `
				> n3 follow e1 n1`,
		},
		{
			name: "those who could replace it are never to be promoted", state: with(steady(), func(s *failover.State) {
				s.Members[1].NoFailover, s.Members[2].NoFailover = true, true
			}),
			view: see(primary(refuses), standby("n2"), standby("n3")), want: stays,
		},
		{
			name: "k = 0: nobody else may be promoted, so silence proves nothing", state: with(steady(), func(s *failover.State) {
				s.Sync.Durable.K = 0
			}),
			view: silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), time.Minute),
			want: `
				n1 open e1 none floor 1:0/A`,
		},
	})
}

func TestStep_keepsTheEvidence(t *testing.T) {
	t.Parallel()
	s, _ := failover.Step(steady(), silent(see(standby("n2", deaf), standby("n3", cut)), primary(), 2*time.Second), policy)
	want := []string{"n1: no report for 2s", "n2: heard n1 5s ago", "n3: running as standby, does not stream from n1"}
	if diff := cmp.Diff(want, s.Op.Evidence); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
}

// Failovers that were seen to open so many seconds ago, and what comes of another.
func TestStep_cooldown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		certain bool
		ago     []int
		waits   bool
	}{
		{"the first", false, nil, false},
		{"F14 another one at once", false, []int{0}, true},
		{"after a second", false, []int{1}, false},
		{"the third waits two seconds", false, []int{3, 1}, true},
		{"and no more", false, []int{4, 2}, false},
		{"the fifth waits eight", false, []int{15, 12, 9, 7}, true},
		{"and no more", false, []int{18, 14, 11, 8}, false},
		{"F14 flapping for an hour: never longer than that", false, []int{90, 80, 70, 61, 60, 58, 54, 46, 37, 28, 18, 7}, true},
		{"and no more", false, []int{90, 80, 70, 61, 60, 58, 54, 46, 37, 28, 18, 8}, false},
		{"single ones, ten seconds apart, have nothing to do with each other", false, []int{40, 30, 20, 10}, false},
		{"less than 80 quiet seconds after many: the series goes on", false, []int{101, 100, 99, 97, 93, 85, 6}, true},
		{"80 quiet seconds after many are a new beginning", false, []int{105, 104, 103, 101, 97, 89, 1}, false},
		{"F1 certain death, again and again", true, []int{8, 6, 4, 2}, false},
		{"F1 whatever kills them kills the fifth too", true, []int{4, 3, 2, 1, 0}, true},
		{"F1 deaths far enough apart", true, []int{25, 20, 15, 10, 5, 0}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), time.Minute)
			if tt.certain {
				v = see(primary(crashed), standby("n2"), standby("n3"))
			}
			v.Now += time.Hour
			for id, o := range v.Reports {
				o.At += time.Hour
				v.Reports[id] = o
			}
			for _, s := range tt.ago {
				v.Opened = append(v.Opened, v.Now-time.Duration(s)*time.Second)
			}
			s, _ := failover.Step(steady(), v, policy)
			if waits := s.Op == nil; waits != tt.waits {
				t.Errorf("Step() waits: %t, want %t", waits, tt.waits)
			}
			if held := failover.Explain(steady(), v, policy).Held != ""; held != tt.waits {
				t.Errorf("Explain() says that a failover is held back: %t, want %t", held, tt.waits)
			}
		})
	}
}

func TestMoveLeadership(t *testing.T) {
	t.Parallel()
	all := see(primary(), standby("n2"), standby("n3"))
	deafLeader := silent(see(standby("n2"), standby("n3")), primary(), 5*time.Second)
	tests := []struct {
		name  string
		state failover.State
		view  failover.View
		self  pgcluster.NodeID
		want  []pgcluster.NodeID
	}{
		{"the leader is elsewhere", steady(), all, "n2", nil},
		{"the leader is on the primary's host", steady(), all, "n1", []pgcluster.NodeID{"n2", "n3"}},
		{"not in an operation", failing(failover.PhaseRecruit), all, "n1", nil},
		{"nobody else is there", steady(), see(primary()), "n1", nil},
		{"who is shutting down will not do", steady(), see(primary(), standby("n2", func(r *pgcluster.Report) { r.Stopping = true }), standby("n3")), "n1", []pgcluster.NodeID{"n3"}},
		{"another zone comes first", with(steady(), func(s *failover.State) {
			s.Members[0].Zone, s.Members[1].Zone, s.Members[2].Zone = "a", "a", "b"
		}), all, "n1", []pgcluster.NodeID{"n3", "n2"}},
		{"F11 only the leader does not hear the primary", steady(), deafLeader, "n2", []pgcluster.NodeID{"n3"}},
		{"F11 for a little less", steady(), silent(see(standby("n2"), standby("n3")), primary(), 4900*time.Millisecond), "n2", nil},
		{"no standby hears it either", steady(), silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), 5*time.Second), "n2", nil},
		{"F6 leadership came back, so it is not the link", steady(), func() failover.View {
			v := silent(see(standby("n2"), standby("n3")), primary(), 20*time.Second)
			v.Moved = v.Now - 10*time.Second
			return v
		}(), "n2", nil},
	}
	for _, tt := range tests {
		to, reason := failover.MoveLeadership(tt.state, tt.view, policy, tt.self)
		if !slices.Equal(to, tt.want) || (reason != "") != (len(tt.want) > 0 || tt.name == "nobody else is there") {
			t.Errorf("%s: MoveLeadership() = %v, %q, want %v", tt.name, to, reason, tt.want)
		}
	}
}
