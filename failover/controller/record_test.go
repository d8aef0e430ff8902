package controller

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/xpd-platform/xpd/failover"
)

// A switchover is shut out from its stop on, not from its checkpoint on, and each
// step is counted once, however the steps are spread over saved states.
func TestRecord(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	c := New(Options{Log: &still{}, Logger: slog.New(slog.DiscardHandler), Registry: reg})
	began := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	steps := []failover.PhaseTime{
		{Phase: failover.PhaseCheckpoint, At: at(0)},
		{Phase: failover.PhaseStop, At: at(2000)},
		{Phase: failover.PhasePromote, At: at(2200)},
		{Phase: failover.PhaseBarrier, At: at(2300)},
		{Phase: "open", At: at(2400)},
	}
	grown := failover.Event{Kind: "grow", At: at(-1)}
	history := func(events ...failover.Event) []failover.Event { return append([]failover.Event{grown}, events...) }
	op := func(n int) *failover.Operation {
		return &failover.Operation{ID: 1, Kind: failover.KindSwitchover, Steps: steps[:n]}
	}
	states := []failover.State{
		{History: history()},
		{History: history(), Op: op(1)},
		{History: history(), Op: op(2)},
		{History: history(), Op: op(4)},
		{History: history(failover.Event{Kind: "switchover", At: at(2400), Steps: steps})},
	}
	for i := 1; i < len(states); i++ {
		c.record(t.Context(), states[i-1], states[i])
	}

	if got := testutil.ToFloat64(c.metrics.completed.WithLabelValues("switchover")); got != 1 {
		t.Errorf("switchovers = %v, want 1", got)
	}
	text := gather(t, reg)
	for _, want := range []string{
		`xpd_failover_pause_seconds_sum 0.4`,
		`xpd_failover_pause_seconds_count 1`,
		`xpd_failover_phase_duration_seconds_sum{kind="switchover",phase="checkpoint"} 2`,
		`xpd_failover_phase_duration_seconds_count{kind="switchover",phase="stop"} 1`,
		`xpd_failover_phase_duration_seconds_count{kind="switchover",phase="promote"} 1`,
		`xpd_failover_phase_duration_seconds_count{kind="switchover",phase="barrier"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %q:\n%s", want, text)
		}
	}
}

// The history forgets its oldest events, so its length tells nothing.
func TestNewEvents(t *testing.T) {
	t.Parallel()
	e := func(epochs ...uint64) []failover.Event {
		var out []failover.Event
		for _, n := range epochs {
			out = append(out, failover.Event{Epoch: n})
		}
		return out
	}
	tests := []struct {
		name             string
		prev, next, want []failover.Event
	}{
		{"the first ones", nil, e(1, 2), e(1, 2)},
		{"none", e(1, 2), e(1, 2), nil},
		{"one more", e(1, 2), e(1, 2, 3), e(3)},
		{"one more and the oldest dropped", e(1, 2), e(2, 3), e(3)},
		{"all replaced", e(1, 2), e(3, 4), e(3, 4)},
	}
	for _, tt := range tests {
		got := newEvents(tt.prev, tt.next)
		if len(got) != len(tt.want) || len(got) > 0 && got[0].Epoch != tt.want[0].Epoch {
			t.Errorf("%s: newEvents() = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func gather(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}
