package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// seenAs is the status that pgctl gets of n.
func seenAs(n *node) client.Cluster {
	return client.Cluster{
		Status: failover.Explain(n.state, n.view, failover.DefaultPolicy()), Leader: n.leader, SeenBy: n.self, Confirmed: n.leader != "",
	}
}

// looks answers one question after the other with what the test lists; nil hangs until
// the watch ends.
func looks(answers ...func() (answer, error)) source {
	i := 0
	return func(ctx context.Context, _ client.Cluster) (answer, error) {
		i++
		if i > len(answers) || answers[i-1] == nil {
			<-ctx.Done()
			return answer{}, ctx.Err()
		}
		return answers[i-1]()
	}
}

func says(c client.Cluster, events ...failover.Event) func() (answer, error) {
	return func() (answer, error) { return answer{c, events}, nil }
}

func silentNode() (answer, error) {
	return answer{}, errors.New("no xpd answered at http://n1:8300: refused\nStart xpd there")
}

// frames runs a watch for d in a terminal of a fixed size and returns what was drawn.
func frames(t *testing.T, d time.Duration, columns, lines int, ask source) []string {
	t.Helper()
	var out strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	w := &watch{ask: ask, every: time.Second, view: &screenView{
		screen:  screen{w: &out, size: func() (int, int) { return columns, lines }},
		servers: []string{"http://n1:8300"}, every: time.Second, paint: func(text string, _ int) string { return text },
	}}
	if _, err := w.run(ctx); err != nil {
		t.Fatal(err)
	}
	drawn := strings.NewReplacer(escClearLine, "", escClearBelow, "", "\r\n", "\n").Replace(out.String())
	return strings.Split(drawn, escHome)[1:]
}

func TestWatch_screen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ok := seenAs(healthy(t))
		got := frames(t, 1500*time.Millisecond, 80, 40, looks(says(ok, eventful()[4]), nil))
		golden(t, "watch_screen.txt", got[len(got)-1]+"\n")
		if !strings.Contains(got[0], "ok: writes are open") {
			t.Errorf("the first answer was not drawn at once:\n%s", got[0])
		}
	})
}

// A node that hangs must not freeze the view.
func TestWatch_saysThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := frames(t, 4500*time.Millisecond, 80, 40, looks(says(seenAs(healthy(t))), nil))
		golden(t, "watch_no_answer.txt", got[len(got)-1]+"\n")
		for _, frame := range got {
			if at := len(got) / 2; frame == got[at] && strings.Contains(frame, "NO ANSWER") {
				t.Errorf("after two seconds it is too early to say so:\n%s", frame)
			}
		}
	})
}

func TestWatch_neverAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := frames(t, 500*time.Millisecond, 80, 40, looks(silentNode))
		golden(t, "watch_never_answered.txt", got[len(got)-1]+"\n")
	})
}

func TestWatch_fitsTheTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, frame := range frames(t, time.Second, 30, 7, looks(says(seenAs(healthy(t)), eventful()...))) {
			all := strings.Split(frame, "\n")
			if len(all) != 7 || !strings.HasPrefix(all[6], "… ") {
				t.Errorf("%d lines, the last %q; want 7 and how many are missing", len(all), all[len(all)-1])
			}
			for _, l := range all {
				if n := len([]rune(l)); n > 30 {
					t.Errorf("%d columns, at most 30: %s", n, l)
				}
			}
		}
	})
}

// An operation is looked at more often, and its phase counts on.
func TestWatch_operation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := healthy(t)
		situations["failover_promotes"].change(n)
		at := n.state.Op.Began
		n.state.Op.Steps = []failover.PhaseTime{{Phase: "recruit", Epoch: 5, At: at}, {Phase: "promote", Epoch: 5, At: at.Add(113 * time.Millisecond)}}
		during := seenAs(n)
		calls := 0
		got := frames(t, 1050*time.Millisecond, 80, 40, func(context.Context, client.Cluster) (answer, error) {
			calls++
			return answer{cluster: during}, nil
		})
		if calls != 11 {
			t.Errorf("%d questions in a second, want 11: the first and one every 100 ms", calls)
		}
		golden(t, "watch_operation.txt", got[len(got)-1]+"\n")
	})
}

func TestWatch_quits(t *testing.T) {
	t.Parallel()
	for _, key := range []byte{'q', 'Q', 3} {
		synctest.Test(t, func(t *testing.T) {
			keys := make(chan byte, 2)
			keys <- 'x'
			keys <- key
			w := &watch{ask: looks(nil), every: time.Second, keys: keys, view: &linesView{w: brokenWriter{}}}
			if _, err := w.run(t.Context()); err != nil {
				t.Errorf("run() = %v", err)
			}
		})
	}
}

// Nobody types any more: the watch goes on, and does not spin.
func TestWatch_goesOnWithoutKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		keys := make(chan byte)
		close(keys)
		var out strings.Builder
		ok := says(seenAs(healthy(t)))
		w := &watch{ask: looks(ok, ok, ok, nil), every: time.Second, keys: keys, view: &linesView{w: &out}}
		if _, err := w.run(ctx); err != nil || strings.Count(out.String(), "\n") != 3 {
			t.Errorf("run() = %v, %d lines, want 3", err, strings.Count(out.String(), "\n"))
		}
	})
}

func TestWatch_outputFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &watch{ask: looks(says(seenAs(healthy(t)))), every: time.Second, view: &linesView{w: brokenWriter{}}}
		if _, err := w.run(t.Context()); !errors.Is(err, errBroken) {
			t.Errorf("run() = %v, want %v", err, errBroken)
		}
	})
}

// promotes is a failover in its phase n.
func promotes(t *testing.T, n int) func() (answer, error) {
	t.Helper()
	during := healthy(t)
	situations["failover_promotes"].change(during)
	for i, ph := range []failover.Phase{failover.PhaseRecruit, failover.PhasePromote, failover.PhaseBarrier}[:n] {
		op := during.state.Op
		op.Phase = ph
		op.Steps = append(op.Steps, failover.PhaseTime{Phase: ph, Epoch: 5, At: op.Began.Add(time.Duration(113*i) * time.Millisecond)})
	}
	during.change("n3", func(r *pgcluster.Report) { r.Followed = uint64(n) })
	return says(seenAs(during))
}

// Where no cursor can be moved, only what changes is written; WAL and ages always do.
func TestWatch_blocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		later := healthy(t)
		later.change("n1", func(r *pgcluster.Report) { r.Position.LSN += 4096; r.LastError = "has lasted 3.1s" })
		still := healthy(t)
		still.change("n1", func(r *pgcluster.Report) { r.Position.LSN += 8192; r.LastError = "has lasted 4.1s" })
		lost := healthy(t)
		situations["standby_lost"].change(lost)
		var out strings.Builder
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		w := &watch{every: time.Second, view: &blocksView{w: &out}, ask: looks(
			says(seenAs(healthy(t))), says(seenAs(healthy(t))), says(seenAs(later)), says(seenAs(still)), says(seenAs(lost)),
			silentNode, silentNode, silentNode, silentNode, says(seenAs(lost)),
			promotes(t, 1), promotes(t, 1), promotes(t, 2), promotes(t, 3), says(seenAs(healthy(t))), nil,
		)}
		if _, err := w.run(ctx); err != nil {
			t.Fatal(err)
		}
		golden(t, "watch_blocks.txt", out.String())
	})
}

func TestWatch_json(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		w := &watch{every: time.Second, view: &linesView{w: &out}, ask: looks(says(seenAs(healthy(t))), silentNode, says(seenAs(healthy(t))))}
		if _, err := w.run(ctx); err != nil {
			t.Fatal(err)
		}
		var levels []string
		for l := range strings.Lines(out.String()) {
			var o struct {
				At    time.Time      `json:"at"`
				Level failover.Level `json:"level"`
				Nodes []any          `json:"nodes"`
				Error string         `json:"error"`
			}
			if err := json.Unmarshal([]byte(l), &o); err != nil || o.At.IsZero() || (o.Error == "") != (len(o.Nodes) == 3) {
				t.Errorf("%v in %s", err, l)
			}
			levels = append(levels, string(o.Level))
		}
		if got := strings.Join(levels, ","); got != "ok,,ok" {
			t.Errorf("levels %q, want ok, none, ok", got)
		}
	})
}
