package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
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
			Unwell: 1532 * time.Millisecond,
			Evidence: []string{
				"n1: heard n2 1.6s ago", "n2: no report for 1.5s",
				"n3: running as standby, does not stream from n2, which may have been cut off from everybody else by a switch",
			},
		},
		{
			At: at(109_000), Epoch: 5, Kind: "set aside", Node: "n2",
			SetAside: &pgcluster.SetAside{
				At: at(108_900), From: pgcluster.Position{Timeline: 4, LSN: 0x16_B374C048}, To: 0x16_B374D848, Bytes: 6144,
				Path: "/var/lib/xpd/pg/diverged/4-16_B374C048-1795296723",
			},
			Reason: "6144 bytes of WAL from 4:16/B374C048 to 16/B374D848 that the cluster never had are kept in /var/lib/xpd/pg/diverged/4-16_B374C048-1795296723",
		},
		{
			At: at(115_000), Epoch: 5, Kind: "no leader", Took: 14 * time.Second,
			Reason: "no Raft leader for 14s, until 2026-11-21T03:16:07Z: nothing could be decided, and no failover could begin; then there: n1, n3",
		},
		{ // in place
			At: at(120_265), Epoch: 6, Kind: "failover", Node: "n3", From: "n3", Reason: "PostgreSQL on n3 stopped", Took: 265 * time.Millisecond,
			Steps: []failover.PhaseTime{step("recruit", 6, 120_000), step("promote", 6, 120_040), step("open", 6, 120_265)},
		},
		{
			At: at(86_400_000), Epoch: 7, Kind: "data loss accepted", Node: "replica_of_the_second_room", From: "n3",
			Reason: "n1 and n3 burnt (by dba)",
		},
		{
			At: at(86_401_200), Epoch: 7, Kind: "failover", Node: "replica_of_the_second_room", From: "n3",
			Reason: "n3 silent for 1.5s and no standby hears its PostgreSQL; data loss accepted (n1 and n3 burnt)", Took: 3_000_200 * time.Millisecond,
			Steps: []failover.PhaseTime{step("recruit", 7, 83_401_000), step("promote", 7, 86_400_100), step("open", 7, 86_401_200)},
			Lost: &failover.DataLoss{
				Has: pgcluster.Position{Timeline: 5, LSN: 0x16_B374B848}, Known: pgcluster.Position{Timeline: 5, LSN: 0x16_B374D848}, Bytes: 8192, For: -1,
			},
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
		"latest":    {args: []string{"-n", "2"}, events: eventful()},
		"long":      {args: []string{"-l", "-n", "8"}, events: eventful()},
		"empty":     {},
		"bad_limit": {args: []string{"--limit", "201"}, code: exitFailed},
		"since":     {args: []string{"--since", "2026-11-21T03:16:00Z", "-n", "2"}, events: eventful()},
		"bad_since": {args: []string{"--since", "yesterday"}, code: exitFailed},
		"epoch":     {args: []string{"5"}, events: eventful()},
		"first":     {args: []string{"1"}, events: eventful()},
		"aborted":   {args: []string{"2"}, events: eventful()},
		"forced":    {args: []string{"7"}, events: eventful()},
		"unknown":   {args: []string{"9"}, events: eventful(), code: exitFailed},
		"never":     {args: []string{"9"}, code: exitFailed},
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

func TestSinceWhen(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Time{
		"":                     {},
		"2h":                   wall.Add(-2 * time.Hour),
		"2026-11-21":           time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC),
		"2026-11-21T03:14:15Z": time.Date(2026, 11, 21, 3, 14, 15, 0, time.UTC),
		"2026-11-21 03:14:15Z": time.Date(2026, 11, 21, 3, 14, 15, 0, time.UTC),
	} {
		if got, err := sinceWhen(in, wall); err != nil || !got.Equal(want) {
			t.Errorf("sinceWhen(%q) = %s, %v, want %s", in, got, err, want)
		}
	}
}

// The JSON of one epoch has its events and no others.
func TestHistory_jsonOfAnEpoch(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	n.state.History = eventful()
	got := pgctl(t.Context(), serve(t, n), nil, "history", "3", "--json")
	var printed []failover.Event
	if err := json.Unmarshal([]byte(got.out), &printed); err != nil || len(printed) != 1 || printed[0].Kind != "switchover" {
		t.Errorf("%v: %s", err, got.out)
	}
}
