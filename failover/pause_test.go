package failover_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// until is a cluster that is paused until a time.
func until(t time.Time, s failover.State) failover.State {
	s.Paused = &failover.Pause{Until: t, Reason: "new switch"}
	return s
}

// clock lets a view be at noon.
func clock(v failover.View) failover.View {
	v.Wall = noon
	return v
}

func TestStep_paused(t *testing.T) {
	t.Parallel()
	hour := noon.Add(time.Hour)
	lost := func(v failover.View) failover.View {
		v.Streamed["n3"] = 0
		return clock(v)
	}
	one := func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }
	runSteps(t, []stepCase{
		{
			name: "F38 paused, then the primary dies: nothing", state: until(hour, steady()),
			view: clock(see(primary(crashed), standby("n2"), standby("n3"))), want: stays,
		},
		{
			name: "F38 paused, then its host is lost: nothing", state: until(hour, steady()),
			view: clock(silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), time.Minute)), want: stays,
		},
		{
			name: "F38 when the pause ends by itself, the failover begins", state: until(noon, steady()),
			view: clock(see(primary(crashed), standby("n2"), standby("n3"))), want: replaced,
		},
		{
			name: "a lost standby stays in the sync set", state: until(hour, steady()),
			view: lost(see(primary(one), standby("n2"))), want: stays,
		},
		{
			name: "a standby that died stays down", state: until(hour, steady()),
			view: clock(see(primary(), standby("n2"), standby("n3", crashed))), want: stays,
		},
		{
			name: "a change of the sync set rests where it is", state: until(hour, with(steady(), func(s *failover.State) {
				s.Sync.Pending, s.Sync.Seq = &pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2"}, K: 1}, 2
			})),
			view: lost(see(primary(one, func(r *pgcluster.Report) { r.SyncNames, r.Order.SyncSeq = "ANY 1 (n2)", 2 }), standby("n2"))),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0`,
		},
		{
			name: "F6 xpd of the primary was restarted: it is told again that it is open", state: until(hour, steady()),
			view: clock(see(primary(func(r *pgcluster.Report) { r.Open, r.Order = 0, pgcluster.OrderStatus{} }), standby("n2"), standby("n3"))),
			want: stays + `
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "F35 somebody emptied the sync names: they are put back", state: until(hour, steady()),
			view: clock(see(primary(func(r *pgcluster.Report) { r.SyncNames = "" }), standby("n2"), standby("n3"))),
			want: stays + `
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "an operation under way is carried on", state: until(hour, failing(failover.PhaseRecruit)),
			view: clock(see(standby("n2", pledged(2)), standby("n3", pledged(2)))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
	})
}

func TestSetPause(t *testing.T) {
	t.Parallel()
	v := clock(see(primary(crashed), standby("n2"), standby("n3")))
	for name, at := range map[string]time.Time{
		"now": noon, "in the past": noon.Add(-time.Second), "in a year": noon.AddDate(1, 0, 0),
	} {
		if _, err := failover.SetPause(steady(), v, policy, at, ""); !isRefused(err) {
			t.Errorf("SetPause() until a time %s = %v, want it refused", name, err)
		}
	}
	if _, err := failover.SetPause(failover.State{}, v, policy, noon.Add(time.Hour), ""); !isRefused(err) {
		t.Errorf("SetPause() before the first start = %v, want it refused", err)
	}
	s, err := failover.SetPause(steady(), v, policy, noon.Add(time.Hour), "new switch")
	if err != nil {
		t.Fatal(err)
	}
	st := failover.Explain(s, v, policy)
	if want := "paused until 2026-11-21T13:00:00Z: new switch"; !strings.Contains(st.Held, want) || st.Paused == nil {
		t.Errorf("Explain() says %q of the dead primary, want it to contain %q", st.Held, want)
	}
	if _, err := failover.Resume(steady(), v, policy, ""); !isRefused(err) {
		t.Errorf("Resume() of what is not paused = %v, want it refused", err)
	}
	s, err = failover.Resume(s, v, policy, "")
	if err != nil || s.Paused != nil {
		t.Fatalf("Resume() = %v, paused %v", err, s.Paused)
	}
	if kinds := eventKinds(s); kinds != "pause, resume" {
		t.Errorf("history is %s", kinds)
	}
}

func TestStep_pauseEndsInTheHistory(t *testing.T) {
	t.Parallel()
	s, _ := failover.Step(until(noon, steady()), clock(see(primary(), standby("n2"), standby("n3"))), policy)
	if s.Paused != nil || eventKinds(s) != "resume" {
		t.Errorf("paused %v, history %s", s.Paused, eventKinds(s))
	}
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*failover.RefusedError](err)
	return ok
}

// eventKinds are the kinds of a history in a line.
func eventKinds(s failover.State) string {
	kinds := make([]string, len(s.History))
	for i, e := range s.History {
		kinds[i] = e.Kind
	}
	return strings.Join(kinds, ", ")
}
