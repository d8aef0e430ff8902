package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/lease"
	"github.com/xpd-platform/xpd/pgcluster"
)

var errCut = errors.New("no route to host")

// world is a cluster of keepers whose every link can be cut.
type world struct {
	mu      sync.Mutex
	leader  pgcluster.NodeID // of Raft; "" while there is none
	known   map[pgcluster.NodeID]pgcluster.NodeID
	states  map[pgcluster.NodeID]failover.State
	changed map[pgcluster.NodeID]chan struct{}
	reports map[pgcluster.NodeID]pgcluster.Report
	keepers map[pgcluster.NodeID]*lease.Keeper
	cut     map[pgcluster.NodeID]bool // reaches nobody and is reached by nobody
	asleep  time.Duration             // for how long every host was suspended
	slow    time.Duration             // that answers are on their way
	start   time.Time
}

// newWorld runs three nodes until the test ends: n1 is primary in epoch 4 and n2 leads.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		leader: "n2", start: time.Now(),
		known:   map[pgcluster.NodeID]pgcluster.NodeID{},
		states:  map[pgcluster.NodeID]failover.State{},
		changed: map[pgcluster.NodeID]chan struct{}{},
		reports: map[pgcluster.NodeID]pgcluster.Report{},
		keepers: map[pgcluster.NodeID]*lease.Keeper{},
		cut:     map[pgcluster.NodeID]bool{},
	}
	rule := pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2", "n3"}, K: 1}
	state := failover.State{
		Members: []pgcluster.Member{{ID: "n1"}, {ID: "n2"}, {ID: "n3"}},
		Primary: failover.Primary{Node: "n1", Epoch: 4, Access: failover.AccessOpen},
		Sync:    failover.Sync{Durable: rule},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	pledge := pgcluster.Stamp{Epoch: 4}
	for _, m := range state.Members {
		id := m.ID
		w.states[id], w.known[id], w.changed[id] = state, "n2", make(chan struct{})
		w.reports[id] = pgcluster.Report{Node: id, Process: pgcluster.ProcessRunning, Role: pgcluster.RoleStandby, Pledged: pledge}
		w.keepers[id] = lease.New(lease.Options{
			Self: id, State: func() (failover.State, uint64) { return w.state(id), 1 },
			Changed: func(uint64) <-chan struct{} { w.mu.Lock(); defer w.mu.Unlock(); return w.changed[id] },
			Leader:  func() pgcluster.NodeID { w.mu.Lock(); defer w.mu.Unlock(); return w.known[id] },
			Verify:  func(context.Context) error { return w.verify(id) },
			Report:  func() pgcluster.Report { w.mu.Lock(); defer w.mu.Unlock(); return w.reports[id] },
			Nodes:   links{w, id}, Now: w.now,
			Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		})
	}
	w.reports["n1"] = pgcluster.Report{
		Node: "n1", Process: pgcluster.ProcessRunning, Role: pgcluster.RolePrimary,
		Pledged: pledge, Led: 4, Open: 4, SyncNames: rule.Names(),
	}
	for _, k := range w.keepers {
		wg.Go(func() {
			if err := k.Run(ctx); err != nil {
				t.Errorf("Run() = %v", err)
			}
		})
	}
	return w
}

func (w *world) now() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.start) + w.asleep + time.Hour
}

func (w *world) state(id pgcluster.NodeID) failover.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[id]
}

func (w *world) verify(id pgcluster.NodeID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leader != id || w.cut[id] {
		return failover.ErrNotLeader
	}
	return nil
}

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// setState is what Raft does on node id.
func (w *world) setState(id pgcluster.NodeID, f func(*failover.State)) {
	w.change(func() {
		s := w.states[id]
		f(&s)
		w.states[id] = s
		close(w.changed[id])
		w.changed[id] = make(chan struct{})
	})
}

// setReport is what the agent of node id does.
func (w *world) setReport(id pgcluster.NodeID, f func(*pgcluster.Report)) {
	w.change(func() {
		r := w.reports[id]
		f(&r)
		w.reports[id] = r
	})
}

// links are what one node asks the others through. A cut link costs the asker its
// patience.
type links struct {
	w    *world
	from pgcluster.NodeID
}

func (l links) reach(ctx context.Context, id pgcluster.NodeID) error {
	l.w.mu.Lock()
	cut := l.w.cut[l.from] || l.w.cut[id]
	l.w.mu.Unlock()
	if !cut {
		return nil
	}
	<-ctx.Done()
	return errCut
}

func (l links) Lease(ctx context.Context, id pgcluster.NodeID) (pgcluster.Grant, error) {
	if err := l.reach(ctx, id); err != nil {
		return pgcluster.Grant{}, err
	}
	defer l.late()
	return l.w.keepers[id].Grant(ctx)
}

func (l links) Confirm(ctx context.Context, id pgcluster.NodeID, epoch uint64) error {
	if err := l.reach(ctx, id); err != nil {
		return err
	}
	defer l.late()
	return l.w.keepers[id].Confirm(epoch)
}

// late lets an answer take its time, once it is given.
func (l links) late() {
	l.w.mu.Lock()
	slow := l.w.slow
	l.w.mu.Unlock()
	time.Sleep(slow)
}

// wantHeld checks that a node holds a lease, or none, now and for a while: renewals
// never let it end in between.
func (w *world) wantHeld(t *testing.T, id pgcluster.NodeID, want bool) {
	t.Helper()
	for range 60 {
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if left := w.keepers[id].Left(); (left > 0) != want {
			t.Fatalf("%s has %v left of its lease, want that it holds one: %t", id, left, want)
		}
	}
}

func TestKeeper_renewsAtTheLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, id := range []pgcluster.NodeID{"n1", "n2", "n3"} {
			w.wantHeld(t, id, true)
			if left := w.keepers[id].Left(); left > lease.Length {
				t.Errorf("%s has %v left, more than is ever granted", id, left)
			}
		}
	})
}

func TestKeeper_isolatedNodeLosesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.wantHeld(t, "n1", true)
		w.change(func() { w.cut["n1"] = true })
		time.Sleep(lease.Length)
		synctest.Wait()
		if left := w.keepers["n1"].Left(); left > 0 {
			t.Errorf("%v left of a lease that ended", left)
		}
		if w.keepers["n1"].Awaits(4, false) == nil {
			t.Error("reads of an isolated node do not wait")
		}
		if w.keepers["n1"].Awaits(4, true) != nil {
			t.Error("writes wait for a lease, though the quorum protects them")
		}
		w.wantHeld(t, "n1", false)
		w.wantHeld(t, "n3", true)

		waiting := w.keepers["n1"].Awaits(4, false)
		w.change(func() { w.cut["n1"] = false })
		<-waiting // or the bubble is in a deadlock
		w.wantHeld(t, "n1", true)
	})
}

// Raft has no leader, yet the primary and the standbys hear each other.
func TestKeeper_renewsByQuorum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.wantHeld(t, "n1", true)
		w.change(func() { w.leader = "" })
		w.wantHeld(t, "n1", true)
		w.wantHeld(t, "n3", true) // out of the primary's
		w.wantHeld(t, "n1", true)

		// One of two standbys is enough for k = 1.
		w.change(func() { w.cut["n3"] = true })
		w.wantHeld(t, "n1", true)

		// A pledge to a new epoch ends it.
		w.setReport("n2", func(r *pgcluster.Report) { r.Pledged.Epoch = 5 })
		time.Sleep(lease.Length)
		w.wantHeld(t, "n1", false)
		w.wantHeld(t, "n2", false)
	})
}

func TestKeeper_refusesToRenewByQuorum(t *testing.T) {
	t.Parallel()
	for name, report := range map[string]func(*pgcluster.Report){
		"the primary itself has pledged":  func(r *pgcluster.Report) { r.Pledged.Epoch = 5 },
		"the primary is closed":           func(r *pgcluster.Report) { r.Open = 0 },
		"PostgreSQL is down":              func(r *pgcluster.Report) { r.Process = pgcluster.ProcessCrashed },
		"it is a standby":                 func(r *pgcluster.Report) { r.Role = pgcluster.RoleStandby },
		"the primary acknowledges alone":  func(r *pgcluster.Report) { r.SyncNames = "" },
		"somebody else made the rule":     func(r *pgcluster.Report) { r.SyncNames = "FIRST 1 (n2)" },
		"both standbys must acknowledge":  func(r *pgcluster.Report) { r.SyncNames = "ANY 2 (n2, n3)" },
		"only a node that is cut may ack": func(r *pgcluster.Report) { r.SyncNames = "ANY 1 (n3)" },
		"it leads in another epoch":       func(r *pgcluster.Report) { r.Pledged.Epoch, r.Led, r.Open = 5, 5, 5 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.wantHeld(t, "n1", true)
				w.change(func() { w.leader, w.cut["n3"] = "", true })
				w.setReport("n1", report)
				time.Sleep(lease.Length)
				w.wantHeld(t, "n1", false)
			})
		})
	}
}

// For what time an answer is on its way, it grants nothing.
func TestKeeper_countsFromTheQuestion(t *testing.T) {
	t.Parallel()
	const slow = 200 * time.Millisecond
	for name, leader := range map[string]pgcluster.NodeID{"of the leader": "n2", "of the quorum": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.change(func() { w.leader, w.slow = leader, slow })
				time.Sleep(lease.Length) // what was granted before is over
				for range 100 {
					time.Sleep(50 * time.Millisecond)
					synctest.Wait()
					for _, id := range []pgcluster.NodeID{"n1", "n3"} {
						if left := w.keepers[id].Left(); left <= 0 || left > lease.Length-slow {
							t.Fatalf("%s has %v left of its lease, want some, and %v at most", id, left, lease.Length-slow)
						}
					}
				}
			})
		})
	}
}

// While the primary's lease runs out, nobody gets a longer one from it.
func TestKeeper_passesOnWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.wantHeld(t, "n3", true)
		w.change(func() { w.leader = "" })
		w.wantHeld(t, "n3", true) // out of the primary's, which the quorum renews
		for _, id := range []pgcluster.NodeID{"n2", "n3"} {
			w.setReport(id, func(r *pgcluster.Report) { r.Pledged.Epoch = 5 })
		}
		for range 40 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if left, most := w.keepers["n3"].Left(), w.keepers["n1"].Left(); left > most {
				t.Fatalf("n3 has %v left of its lease, the primary %v", left, most)
			}
		}
		w.wantHeld(t, "n1", false)
	})
}

// Who hears of a new epoch late has no lease of the old one as soon as it has asked.
func TestKeeper_newEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.wantHeld(t, "n3", true)
		w.setState("n2", func(s *failover.State) { s.Primary.Node, s.Primary.Epoch = "n2", 5 })
		time.Sleep(lease.Interval)
		synctest.Wait()
		if w.keepers["n3"].Awaits(4, false) == nil {
			t.Error("reads of the old epoch do not wait")
		}
		if w.keepers["n3"].Awaits(5, false) != nil {
			t.Error("reads of the new epoch wait")
		}
		// The state arrives: the lease that was granted counts, at once.
		w.setState("n3", func(s *failover.State) { s.Primary.Node, s.Primary.Epoch = "n2", 5 })
		synctest.Wait()
		if w.keepers["n3"].Left() == 0 {
			t.Error("no lease of the present epoch")
		}
	})
}

// With k = 0 nothing but the lease protects what is written.
func TestKeeper_writesNeedItWhileThePrimaryIsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alone := func(s *failover.State) { s.Sync.Durable = pgcluster.SyncSet{} }
		w.setReport("n1", func(r *pgcluster.Report) { r.SyncNames = "" })
		w.setState("n2", alone) // n1 and n3 have not heard of it
		time.Sleep(lease.Interval)
		synctest.Wait()
		w.change(func() { w.cut["n1"], w.cut["n3"] = true, true })
		time.Sleep(lease.Length)
		synctest.Wait()
		for _, id := range []pgcluster.NodeID{"n1", "n3"} {
			if w.keepers[id].Awaits(4, true) == nil {
				t.Errorf("writes of %s do not wait", id)
			}
		}
		if w.keepers["n2"].Awaits(4, true) != nil {
			t.Error("writes of the leader wait")
		}
	})
}

// After the host was suspended nothing is left, whatever timers say.
func TestKeeper_suspend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.wantHeld(t, "n1", true)
		w.change(func() { w.leader, w.cut["n2"], w.cut["n3"], w.asleep = "", true, true, lease.Length })
		if left := w.keepers["n1"].Left(); left > 0 {
			t.Errorf("%v left after the suspension", left)
		}
	})
}
