package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// script moves a switchover on by one phase each time that the state is read, and
// ends it with an event of kind about primary.
func script(kind string, primary pgcluster.NodeID, phases ...failover.Phase) func(*failover.State) {
	reads := 0
	return func(s *failover.State) {
		reads++
		if reads == 1 {
			return // the node that is asked has just heard of it
		}
		op := s.Op
		at := op.Steps[len(op.Steps)-1].At.Add(40 * time.Millisecond)
		if n := reads - 2; n < len(phases) {
			op.Phase = phases[n]
			op.Steps = append(slices.Clip(op.Steps), failover.PhaseTime{Phase: op.Phase, Epoch: op.Epoch, At: at})
			return
		}
		e := failover.Event{
			At: at, Epoch: op.Epoch, Kind: kind, Node: primary, From: op.From, Reason: op.Reason,
			Took: at.Sub(op.Began), Steps: op.Steps,
		}
		if kind == "aborted" {
			e.Epoch, e.Reason = s.Primary.Epoch, "the checkpoint did not end in time"
		} else {
			e.Steps = append(e.Steps, failover.PhaseTime{Phase: "open", Epoch: op.Epoch, At: at})
		}
		s.History = append(s.History, e)
		s.Op = nil
	}
}

func TestSwitchover(t *testing.T) {
	t.Parallel()
	done := func() func(*failover.State) {
		return script("switchover", "n2", failover.PhaseStop, failover.PhasePromote, failover.PhaseBarrier)
	}
	tests := map[string]struct {
		args   []string
		in     string
		change func(*node)
		code   int
	}{
		"confirmed": {in: "y\n", change: func(n *node) { n.next = done() }},
		"not_asked": {
			args:   []string{"--to", "n2", "-y", "--reason", "kernel update on n1"},
			change: func(n *node) { n.next = done() },
		},
		"declined":   {args: []string{"--to", "n3"}, in: "n\n", code: exitFailed},
		"default_no": {in: "\n", code: exitFailed},
		"eof":        {in: "", code: exitFailed},
		"y_then_eof": {in: "y", code: exitFailed}, // a stream that broke off is not an answer
		"is_primary": {args: []string{"--to", "n1", "-y"}, code: exitFailed},
		"unknown":    {args: []string{"--to", "n9", "-y"}, code: exitFailed},
		"not_streaming": {args: []string{"--to", "n3", "-y"}, code: exitFailed, change: func(n *node) {
			n.change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[:1] })
		}},
		"uncertain": {args: []string{"-y"}, code: exitFailed, change: func(n *node) {
			n.switchover = func() error { return failover.ErrUncertain }
		}},
		"reason_too_long": {args: []string{"-y", "--reason", strings.Repeat("because", 30)}, code: exitFailed},
		"aborted": {args: []string{"-y"}, code: exitFailed, change: func(n *node) {
			n.next = script("aborted", "n2")
		}},
		"failover": {args: []string{"-y"}, code: exitFailed, change: func(n *node) {
			n.next = script("failover", "n3", failover.PhaseStop, failover.PhaseRecruit, failover.PhasePromote, failover.PhaseBarrier)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := healthy(t)
			if tt.change != nil {
				tt.change(n)
			}
			args := append([]string{"switchover"}, tt.args...)
			got := pgctl(t.Context(), serve(t, n), strings.NewReader(tt.in), args...)
			if got.code != tt.code {
				t.Errorf("exit code = %d, want %d", got.code, tt.code)
			}
			golden(t, "switchover_"+name+".txt", got.transcript(args...))
		})
	}
}

func TestSwitchover_json(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	n.next = script("switchover", "n2", failover.PhaseStop, failover.PhasePromote, failover.PhaseBarrier)
	got := pgctl(t.Context(), serve(t, n), nil, "switchover", "-y", "--json")
	var printed failover.Event
	if err := json.Unmarshal([]byte(got.out), &printed); err != nil || got.code != exitOK {
		t.Fatalf("exit code %d, %v in %s", got.code, err, got.out)
	}
	if diff := cmp.Diff(n.state.History[0], printed); diff != "" {
		t.Errorf("switchover --json (-recorded +printed):\n%s", diff)
	}
}

// TestSwitchover_nobodyLeads asks once and is told that nothing was done.
func TestSwitchover_nobodyLeads(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	n.switchover = func() error { return failover.ErrNotLeader }
	got := pgctl(t.Context(), serve(t, n), nil, "switchover", "-y", "--timeout", "3s")
	const want = "no Raft leader is heard, and without one nothing is changed\nNothing was done; pgctl why says which nodes are missing\n"
	if got.code != exitFailed || !strings.HasSuffix(got.err, want) {
		t.Errorf("exit code %d, stderr %q", got.code, got.err)
	}
}

func TestSwitchover_stopsWatching(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		args      []string
		interrupt bool
		want      string
	}{
		{"--timeout", []string{"--timeout", "3s"}, false, "pgctl: out of time: "},
		{"Ctrl-C", nil, true, "pgctl: interrupted: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			n := healthy(t)
			var reads atomic.Int32
			n.next = func(*failover.State) { // hangs in its first phase
				if reads.Add(1) == 3 && tt.interrupt {
					cancel()
				}
			}
			got := pgctl(ctx, serve(t, n), nil, append([]string{"switchover", "-y"}, tt.args...)...)
			if got.code != exitFailed || !strings.Contains(got.err, "\n     0 ms  checkpoint\n"+tt.want) ||
				!strings.HasSuffix(got.err, "\npgctl status shows where it is, pgctl history how it ended\n") {
				t.Errorf("exit code %d, stderr:\n%s", got.code, got.err)
			}
		})
	}
}

// TestSwitchover_interruptedWhileAsking: a terminal that nobody types at.
func TestSwitchover_interruptedWhileAsking(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := healthy(t)
	n.switchover = func() error { return errors.New("must not be asked for") }
	in, typing := io.Pipe()
	defer typing.Close()
	got := pgctl(ctx, serve(t, n), reader(func(p []byte) (int, error) {
		cancel()
		return in.Read(p)
	}), "switchover")
	if got.code != exitFailed || !strings.HasSuffix(got.err, "[y/N] \npgctl: "+errAborted.Error()+"\n") {
		t.Errorf("exit code %d, stderr %q", got.code, got.err)
	}
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }
