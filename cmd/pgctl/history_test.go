package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
)

// eventful is a history with every kind of event.
func eventful() []failover.Event {
	at := func(ms int) time.Time { return wall.Add(time.Duration(ms) * time.Millisecond) }
	step := func(ph failover.Phase, epoch uint64, ms int) failover.PhaseTime {
		return failover.PhaseTime{Phase: ph, Epoch: epoch, At: at(ms)}
	}
	return []failover.Event{
		{
			At: at(1964), Epoch: 1, Kind: "bootstrap", Node: "n1", Reason: "first start of the cluster", Took: 1964 * time.Millisecond,
			Steps: []failover.PhaseTime{step("init", 1, 0), step("barrier", 1, 1314), step("open", 1, 1964)},
		},
		{At: at(2500), Epoch: 1, Kind: "grow", Node: "n3", Reason: "n3 streams: sync set is ANY 1 (n2, n3)"},
		{At: at(60_000), Epoch: 1, Kind: "shrink", Node: "n3", Reason: "n3 lost: sync set is ANY 1 (n2)"},
		{
			At: at(70_250), Epoch: 1, Kind: "aborted", Node: "n2", From: "n1", Reason: "n2 does not stream any more",
			Took: 250 * time.Millisecond, Steps: []failover.PhaseTime{step("checkpoint", 2, 70_000)},
		},
		{
			At: at(80_298), Epoch: 3, Kind: "switchover", Node: "n2", From: "n1", Reason: "kernel update on n1", Took: 298 * time.Millisecond,
			Steps: []failover.PhaseTime{
				step("checkpoint", 3, 80_000), step("stop", 3, 80_057), step("promote", 3, 80_185), step("barrier", 3, 80_227), step("open", 3, 80_298),
			},
		},
		{ // a promotion that hung, so that another node was chosen in the next epoch
			At: at(106_100), Epoch: 5, Kind: "failover", Node: "n3", From: "n2",
			Reason: "n2 silent for 1.5s and no standby hears its PostgreSQL; n1 did not become primary in time", Took: 16_100 * time.Millisecond,
			Steps: []failover.PhaseTime{
				step("recruit", 4, 90_000), step("promote", 4, 90_110), step("recruit", 5, 105_120), step("promote", 5, 105_150),
				step("barrier", 5, 105_520), step("open", 5, 106_100),
			},
		},
		{ // in place
			At: at(120_265), Epoch: 6, Kind: "failover", Node: "n3", From: "n3", Reason: "PostgreSQL on n3 stopped", Took: 265 * time.Millisecond,
			Steps: []failover.PhaseTime{step("recruit", 6, 120_000), step("promote", 6, 120_040), step("open", 6, 120_265)},
		},
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args   []string
		events []failover.Event
		code   int
	}{
		"all":       {events: eventful()},
		"latest":    {args: []string{"--limit", "2"}, events: eventful()},
		"empty":     {},
		"bad_limit": {args: []string{"--limit", "201"}, code: exitFailed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := healthy(t)
			n.state.History = tt.events
			args := append([]string{"history"}, tt.args...)
			got := pgctl(t.Context(), serve(t, n), nil, args...)
			if got.code != tt.code {
				t.Errorf("exit code = %d, want %d", got.code, tt.code)
			}
			golden(t, "history_"+name+".txt", got.transcript(args...))
		})
	}
}

func TestHistory_json(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]failover.Event{"events": eventful(), "none": {}} {
		n := healthy(t)
		n.state.History = want
		got := pgctl(t.Context(), serve(t, n), nil, "history", "--json")
		var printed []failover.Event
		if err := json.Unmarshal([]byte(got.out), &printed); err != nil || got.code != exitOK {
			t.Fatalf("%s: exit code %d, %v in %s", name, got.code, err, got.out)
		}
		if diff := cmp.Diff(want, printed); diff != "" {
			t.Errorf("%s: history --json (-recorded +printed):\n%s", name, diff)
		}
	}
}
