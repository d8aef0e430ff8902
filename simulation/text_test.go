package simulation

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/stats"
)

func TestReport_text(t *testing.T) {
	t.Parallel()
	ms := func(n float64) Millis { return Millis(n * float64(time.Millisecond)) }
	r := Report{
		Seed: 7, Rate: 300, Seconds: 61.24,
		Disturbances: []Disturbance{
			{Name: nameKill, Pause: ms(237.9), Target: targetPause(nameKill), From: "n1", To: "n2", Healed: ms(1940)},
			{Name: nameLoss, Pause: ms(1613), Target: targetPause(nameLoss), From: "n2", To: "n10", Healed: ms(6300)},
		},
		Requests:     Requests{Made: 1000, Failed: 3, Retried: 40, TurnedAway: 2},
		Acknowledged: Acknowledged{Assignments: 600, Exposures: 300, Events: 50},
		Changed:      1, TornUnits: 1,
		Audits: []NodeAudit{{Node: "n2", Role: rolePrimary}, {Node: "n1", Role: "sync standby", MissingEvents: 4, TornUnits: 1, LayerUnits: 1}},
		Latency: []StreamLatency{
			{Stream: "treatments", Outside: Latency{Count: 500, P50: ms(1.6), P99: ms(8), P999: ms(11.25), Max: ms(84.3)}},
			{Stream: floorStream, Outside: Latency{Count: 490, P50: ms(0.7), P99: ms(2), P999: ms(4), Max: ms(5)}},
		},
		AboveFloor: ms(7.25),
		Allocation: []Allocation{
			{Experiment: "checkout_button", Treatments: []TreatmentShare{{"blue", 1, 310}, {"green", 1, 290}}, ChiSquare: stats.ChiSquare{
				Statistic: stats.Number{Value: 0.6667, Defined: true}, DF: 1, P: stats.Number{Value: 0.414, Defined: true},
			}},
			{Experiment: "free_shipping", Treatments: []TreatmentShare{{"from_50", 3, 0}}},
		},
		Complaints: []string{"event x is missing"},
	}
	var got strings.Builder
	if err := r.WriteText(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantText, got.String()); diff != "" {
		t.Errorf("WriteText() (-want +got):\n%s", diff)
	}
}

func TestReport_FaultLines(t *testing.T) {
	t.Parallel()
	r := Report{
		Seed:         7,
		Disturbances: []Disturbance{{Name: "F8", Pause: Millis(1824 * time.Millisecond), From: "n1", To: "n2", Healed: Millis(9 * time.Second), Rejoin: Millis(2440 * time.Millisecond)}},
		Requests:     Requests{Made: 1000},
		Acknowledged: Acknowledged{Assignments: 600, Exposures: 300, Events: 50},
		Audits:       []NodeAudit{{Node: "n2", Role: rolePrimary, MissingEvents: 1}, {Node: "n1", Role: "sync standby", MissingAssignments: 3, MissingEvents: 1}},
	}
	lost := []string{"fault: F8: FAILED (acknowledged data is missing or differs (seed 7)), pause 1824 ms, failed 0 of 1000, lost 4 of 950, rejoined after 2.4 s, primary n1 → n2"}
	if diff := cmp.Diff(lost, r.FaultLines()); diff != "" {
		t.Errorf("FaultLines() (-want +got):\n%s", diff)
	}
	r.Audits = []NodeAudit{{Node: "n2", Role: rolePrimary}, {Node: "n1", Role: "sync standby"}}
	if got := r.FaultLines()[0]; !strings.HasPrefix(got, "fault: F8: ok, pause 1824 ms, failed 0 of 1000, lost 0 of 950,") {
		t.Errorf("FaultLines() = %s, want that nothing was lost and all is ok", got)
	}
}

const wantText = `
seed 7, 300 requests for treatments per second, 61.2 s of load

Disturbances
                                              pause in writes  target     primary   healed after
  kill -9 of the primary's PostgreSQL         237 ms           ≤ 1000 ms  n1 → n2   1.9 s
  loss of the primary's node, and its return  1613 ms          ≤ 3000 ms  n2 → n10  6.3 s

Requests
  made     1000
  failed   3 (2 of them never sent: too many were waiting)
  retried  40

Acknowledged
  assignments                             600
  exposures                               300
  events                                  50
  answers that contradict an earlier one  1
  units that were told two treatments     1

Acknowledged, but missing in the tables of
                    assignments  exposures  events  changed  units with two treatments
  n2, primary       0            0          0       0        0
  n1, sync standby  0            0          4       0        2

Latency outside the disturbances, in ms from when a request was due
                    requests  p50  p99  p99.9  max
  treatments        500       1.6  8.0  11.2   84.3
  floor (/healthz)  490       0.7  2.0  4.0    5.0

Latency during the disturbances, until a second after the cluster had healed
                    requests  p50  p99  p99.9  max
  treatments        0         0.0  0.0  0.0    0.0
  floor (/healthz)  0         0.0  0.0  0.0    0.0

Outside the disturbances the p99.9 of treatments is 7.2 ms above the floor; the target is at most 10.0.

Allocation
  checkout_button  blue 310, green 290  weights 1:1  chi-square 0.67 (1 df), p 0.414
  free_shipping    from_50 0            weights 3    no units

What went wrong, the first of it
  event x is missing
`

func TestReport_err(t *testing.T) {
	t.Parallel()
	clean := []NodeAudit{{Node: "n1"}, {Node: "n2"}}
	tests := []struct {
		name   string
		report Report
		want   string
	}{
		{"nothing is wrong", Report{Audits: clean}, ""},
		{"an acknowledged row is missing", Report{Audits: []NodeAudit{{}, {MissingExposures: 1}}}, "acknowledged data is missing"},
		{"an answer changed", Report{Audits: clean, Changed: 1}, "contradict"},
		{"a unit was told two treatments", Report{Audits: clean, TornUnits: 1}, "contradict"},
		{"a request failed", Report{Audits: clean, Requests: Requests{Made: 9, Failed: 1}}, "1 of 9 requests failed"},
		{"no standby was checked", Report{Audits: clean[:1]}, "no synchronous standby"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.report.Err()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Err() = %v, want %q", err, tt.want)
			}
		})
	}
}
