package failover_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// values are those of two settings of which a standby may not have less than its primary.
type values [2]int

func (v values) atLeast(o values) values { return values{max(v[0], o[0]), max(v[1], o[1])} }

// host is a node that does as it is told at once.
type host struct {
	r         pgcluster.Report
	now, next values // what PostgreSQL runs with, and what it was told to
	wal       values // what its WAL says that a primary had
	starts    int
}

// start is what an agent does: a standby gets no less than its WAL asks for.
func (h *host) start() {
	h.starts++
	h.now = h.next
	if h.r.Role == pgcluster.RoleStandby {
		h.now = h.next.atLeast(h.wal)
	}
	h.r.Process = pgcluster.ProcessRunning
}

// trio are three of them, and the agreed state.
type trio struct {
	t     *testing.T
	s     failover.State
	v     failover.View
	phase string
	all   map[pgcluster.NodeID]*host
	less  []string // standbys that had less than their primary
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	hs := &trio{t: t, s: steady(), v: see(), all: map[pgcluster.NodeID]*host{}}
	for _, r := range []pgcluster.Report{primary(), standby("n2"), standby("n3")} {
		hs.all[r.Node] = &host{r: r, now: values{100, 100}, next: values{100, 100}, wal: values{100, 100}}
	}
	return hs
}

// look makes the view of what is there now.
func (hs *trio) look() failover.View {
	v := &hs.v
	v.Now += 100 * time.Millisecond
	if op := hs.s.Op; op != nil {
		if phase := fmt.Sprint(op.ID, op.Phase, op.To); phase != hs.phase {
			hs.phase, v.PhaseSince = phase, v.Now
		}
	}
	for id, h := range hs.all {
		r := h.r
		r.Senders, r.Higher, r.Lower = nil, nil, nil
		next := h.next
		if r.Role == pgcluster.RoleStandby {
			next = next.atLeast(h.wal) // so is what the agent writes
		}
		for i, name := range []string{"max_connections", "max_worker_processes"} {
			switch {
			case !r.Running():
			case next[i] > h.now[i]:
				r.Higher = append(r.Higher, name)
			case next[i] < h.now[i]:
				r.Lower = append(r.Lower, name)
			}
		}
		rule, _ := pgcluster.ParseSyncSet(r.SyncNames)
		for _, m := range hs.s.Members {
			if f := hs.all[m.ID].r; r.Running() && f.Running() && f.Receiver.Upstream == id {
				s := sender(m.ID, 100)
				if !rule.Has(m.ID) {
					s.SyncPriority = 0
				}
				r.Senders = append(r.Senders, s)
				v.Streamed[m.ID] = v.Now
			}
		}
		v.Reports[id] = failover.Observation{Report: r, At: v.Now}
	}
	return *v
}

// obey carries an order out.
func (hs *trio) obey(o pgcluster.Order) {
	h, epoch := hs.all[o.Node], o.Stamp.Epoch
	r := &h.r
	r.Pledged.Epoch = epoch
	r.Order = pgcluster.OrderStatus{
		Kind: o.Kind, Stamp: o.Stamp, SyncSeq: o.SyncSeq, Upstream: o.Upstream, Timeline: o.Lineage.Current(), Reclone: o.Reclone, Done: true,
	}
	switch o.Kind {
	case pgcluster.OrderCheckpoint:
	case pgcluster.OrderStop:
		r.Process, r.Open, r.Recruited = pgcluster.ProcessStopped, 0, epoch
	case pgcluster.OrderRestart:
		r.Restarted = o.Restart
		h.start()
	case pgcluster.OrderFollow:
		r.Role, r.Followed, r.SyncNames, r.Recruited = pgcluster.RoleStandby, epoch, "", 0
		r.Receiver = pgcluster.Receiver{Upstream: o.Upstream, Streaming: true}
		if r.Down() {
			h.start()
		}
	case pgcluster.OrderLead:
		hs.lead(h, o)
	case pgcluster.OrderInit, pgcluster.OrderRecruit, pgcluster.OrderRest:
		fallthrough
	default:
		hs.t.Fatalf("nobody expected %s of %s", o.Kind, o.Node)
	}
	hs.compare()
}

func (hs *trio) lead(h *host, o pgcluster.Order) {
	r, epoch := &h.r, o.Stamp.Epoch
	if r.Role == pgcluster.RoleStandby {
		r.Position.Timeline++
		r.Lineage = append(r.Lineage, pgcluster.Switch{Parent: r.Position.Timeline - 1, At: 100, Child: r.Position.Timeline})
	}
	r.Role, r.Led, r.Recruited, r.Receiver = pgcluster.RolePrimary, epoch, 0, pgcluster.Receiver{}
	if r.Down() {
		h.start()
	}
	r.SyncNames, r.Barrier, r.BarrierAt = o.Sync.Names(), epoch, 100
	if o.Open {
		r.Open = epoch
	}
}

// compare lets every standby replay what its primary has, and notes who has less.
func (hs *trio) compare() {
	for _, m := range hs.s.Members {
		h := hs.all[m.ID]
		up, follows := hs.all[h.r.Receiver.Upstream]
		if !follows || !up.r.Running() || up.r.Role != pgcluster.RolePrimary || !h.r.Running() {
			continue
		}
		h.wal, up.wal = up.now, up.now
		if h.now != h.now.atLeast(up.now) {
			hs.less = append(hs.less, fmt.Sprintf("%s has %v, its primary %v", m.ID, h.now, up.now))
		}
	}
}

// restartAll plays a restart of all nodes to its end.
func (hs *trio) restartAll() {
	hs.t.Helper()
	s, err := failover.Restart(hs.s, hs.look(), policy, "", "")
	if err != nil {
		hs.t.Fatal(err)
	}
	hs.s = s
	for quiet := 0; quiet < 3; quiet++ {
		var orders []pgcluster.Order
		hs.s, orders = failover.Step(hs.s, hs.look(), policy)
		if hs.s.Op != nil || len(orders) > 0 {
			quiet = -1
		}
		for _, o := range orders {
			hs.obey(o)
		}
		if hs.v.Now > now+time.Minute {
			hs.t.Fatalf("no end: %v", outcome(hs.s, orders))
		}
	}
}

// Whatever way two settings go, on all nodes, none has less than its primary at any
// time, all end with what was asked for, and the role moves at most once.
func TestRestart_order(t *testing.T) {
	t.Parallel()
	ways := []int{100, 200, 50}
	for _, first := range ways {
		for _, second := range ways {
			next := values{first, second}
			t.Run(fmt.Sprint(next), func(t *testing.T) {
				t.Parallel()
				hs := newTrio(t)
				for _, h := range hs.all {
					h.next = next
				}
				hs.restartAll()
				higher, lower := max(first, second) > 100, min(first, second) < 100
				for id, h := range hs.all {
					starts := 1
					if higher && lower && id != "n1" {
						starts = 2
					}
					if h.now != next || h.starts != starts {
						t.Errorf("%s has %v after %d starts, want %d", id, h.now, h.starts, starts)
					}
				}
				if len(hs.less) > 0 {
					t.Errorf("a standby could not replay: %v", hs.less)
				}
				if p := hs.s.Primary; p.Epoch != 2 || p.Node == "n1" != lower {
					t.Errorf("%s is primary of epoch %d", p.Node, p.Epoch)
				}
			})
		}
	}
}

// ALTER SYSTEM, or a setting of one host's own.
func TestRestart_orderOfOneThatDiffers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		id    pgcluster.NodeID
		next  values
		want  values // in the end
		moves bool
	}{
		{"n1", values{200, 100}, values{200, 100}, true},
		{"n1", values{50, 100}, values{50, 100}, false},
		{"n2", values{50, 100}, values{100, 100}, true}, // no less than its primary
	} {
		t.Run(fmt.Sprint(tt.id, tt.next), func(t *testing.T) {
			t.Parallel()
			hs := newTrio(t)
			hs.all[tt.id].next = tt.next
			hs.restartAll()
			if got := hs.all[tt.id].now; got != tt.want || len(hs.less) > 0 {
				t.Errorf("%s has %v in the end, want %v; had less: %v", tt.id, got, tt.want, hs.less)
			}
			if moved := hs.s.Primary.Node != "n1"; moved != tt.moves {
				t.Errorf("the role moved: %t, want %t", moved, tt.moves)
			}
		})
	}
}
