package controller

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// still is a log that never changes but by hand.
type still struct {
	Log
	s failover.State
}

func (l *still) State() (failover.State, uint64) { return l.s, 1 }

func newTestObserver(l *still) *observer {
	return newObserver(Options{
		Members: []pgcluster.Member{{ID: "n1"}, {ID: "n2"}}, Log: l, Logger: slog.New(slog.DiscardHandler),
	})
}

// What a process slept through is no evidence against others.
func TestObserver_suspensionResetsEvidence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &still{s: failover.State{Op: &failover.Operation{ID: 1, Epoch: 1, Phase: failover.PhasePromote}}}
		o := newTestObserver(l)
		o.store("n1", pgcluster.Report{Node: "n1"})
		time.Sleep(600 * time.Millisecond)
		if v := o.view(); v.Since != 0 || v.PhaseSince != 0 {
			t.Errorf("after 0.6 s: Since %v, PhaseSince %v, want 0", v.Since, v.PhaseSince)
		}
		time.Sleep(20 * time.Second)
		v := o.view()
		if v.Since != v.Now || v.PhaseSince != v.Now {
			t.Errorf("after a gap: Since %v, PhaseSince %v, want %v", v.Since, v.PhaseSince, v.Now)
		}
		if got, want := v.Reports["n1"].At, time.Duration(0); got != want {
			t.Errorf("the report is said to be of %v, want %v", got, want)
		}
	})
}

func TestObserver_tellsPhasesApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &still{}
		o := newTestObserver(l)
		steps := []*failover.Operation{
			{ID: 1, Epoch: 4, Phase: failover.PhaseRecruit},
			{ID: 1, Epoch: 4, Phase: failover.PhasePromote},
			{ID: 1, Epoch: 5, Phase: failover.PhaseRecruit},
			nil,
			{ID: 2, Epoch: 5, Phase: failover.PhaseRecruit},
		}
		for i, op := range steps {
			time.Sleep(100 * time.Millisecond)
			l.s.Op = op
			entered := o.view().Now
			time.Sleep(100 * time.Millisecond)
			if got := o.view().PhaseSince; got != entered {
				t.Errorf("step %d: PhaseSince = %v, want %v", i, got, entered)
			}
		}
	})
}

func TestObserver_streamedIsThePresentPrimarysWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &still{s: failover.State{Primary: failover.Primary{Node: "n1", Epoch: 1}}}
		o := newTestObserver(l)
		senders := []pgcluster.Sender{{Node: "n2", Streaming: true}, {Node: "n3"}}
		o.store("n1", pgcluster.Report{Node: "n1", Role: pgcluster.RolePrimary, Senders: senders})
		time.Sleep(100 * time.Millisecond)
		o.store("n2", pgcluster.Report{Node: "n2", Role: pgcluster.RolePrimary, Senders: senders})
		v := o.view()
		if at, ok := v.Streamed["n2"]; !ok || at != 0 {
			t.Errorf("Streamed[n2] = %v, %v, want what n1 said at 0", at, ok)
		}
		if at, ok := v.Streamed["n3"]; ok {
			t.Errorf("Streamed[n3] = %v, want nothing", at)
		}
		l.s.Primary = failover.Primary{Node: "n2", Epoch: 2}
		if v := o.view(); v.Streamed["n1"] != v.Now {
			t.Errorf("Streamed[n1] = %v in a new epoch, want %v", v.Streamed["n1"], v.Now)
		}
	})
}

// Only failovers count, from when they happened: a process that starts learns of all of
// them within a moment.
func TestObserver_remembersFailovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &still{}
		o := newTestObserver(l)
		open := func(epoch uint64, kind failover.Kind, age time.Duration) time.Duration {
			l.s.Primary = failover.Primary{Node: "n1", Epoch: epoch, Access: failover.AccessOpen}
			l.s.History = append(l.s.History, failover.Event{At: time.Now().Add(-age), Epoch: epoch, Kind: string(kind)})
			return o.view().Now - age
		}
		expect := func(want ...time.Duration) {
			t.Helper()
			if got := o.view().Opened; !slices.Equal(got, want) {
				t.Errorf("Opened = %v, want %v", got, want)
			}
		}
		time.Sleep(100 * time.Millisecond)
		fourth := open(4, failover.KindFailover, 10*time.Minute)
		fifth := open(5, failover.KindFailover, time.Minute)
		expect(fourth, fifth)
		open(6, failover.KindSwitchover, 0)
		time.Sleep(time.Second)
		l.s.Primary.Access = failover.AccessClosed
		o.view()
		eighth := open(8, failover.KindFailover, 0)
		expect(fourth, fifth, eighth)

		ninth := open(9, failover.KindFailover, -time.Hour) - time.Hour // by the clock of that leader
		tenth := open(10, failover.KindFailover, 1000*time.Hour)        // by that of another: not before the ninth
		if tenth >= ninth {
			t.Fatalf("%v is not before %v", tenth, ninth)
		}
		expect(fourth, fifth, eighth, ninth, ninth)
		for epoch := range uint64(50) {
			open(11+epoch, failover.KindFailover, 0)
		}
		if got := o.view().Opened; len(got) != maxOpened {
			t.Errorf("%d failovers are remembered, want %d", len(got), maxOpened)
		}
	})
}

// A leader that was restarted knows the four failovers that, in TestStep_cooldown, hold the
// fifth back, though a switchover came after them or an operation is under way.
func TestObserver_learnsFailoversFromTheHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var s failover.State
		var want []time.Duration
		for i, ago := range []time.Duration{15 * time.Second, 12 * time.Second, 9 * time.Second, 7 * time.Second} {
			want = append(want, -ago)
			e := failover.Event{At: begin.Add(-ago), Epoch: uint64(i) + 2, Kind: string(failover.KindFailover)}
			s.History = append(s.History, e, failover.Event{At: e.At, Epoch: e.Epoch, Kind: "shrink"})
		}
		s.History = append(s.History, failover.Event{At: begin, Epoch: 6, Kind: string(failover.KindSwitchover)})
		for _, access := range []failover.Access{failover.AccessOpen, failover.AccessClosed} {
			s.Primary = failover.Primary{Node: "n1", Epoch: 6, Access: access}
			o := newTestObserver(&still{s: s})
			for range 2 { // what was learned is not learned again
				if got := o.view().Opened; !slices.Equal(got, want) {
					t.Errorf("%s: Opened = %v, want %v", access, got, want)
				}
			}
		}
	})
}
