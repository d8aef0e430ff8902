package simulation

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	ms := func(n int) Millis { return Millis(time.Duration(n) * time.Millisecond) }
	sc := scenarios()[0]
	good := Report{Audits: make([]NodeAudit, 2)}
	tests := []struct {
		name   string
		report Report
		pauses []int
		stays  bool
		want   string // of the error
	}{
		{"at the targets", good, []int{100, 500, 1000}, false, ""},
		{"the median is above its target", good, []int{100, 501, 600}, false, "p50 501 ms is above 500 ms"},
		{"one round is above the bound", good, []int{100, 100, 1001}, false, "max 1001 ms is above 1000 ms"},
		{"nothing moved", good, []int{100}, true, "the primary stayed in 1 rounds"},
		{"a request failed", Report{Audits: good.Audits, Requests: Requests{Made: 9, Failed: 1}}, []int{100}, false, "1 of 9 requests failed (seed 0)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var played []Disturbance
			for _, p := range tt.pauses {
				d := Disturbance{Name: sc.name, Pause: ms(p), From: "n1", To: "n2"}
				if tt.stays {
					d.To = d.From
				}
				played = append(played, d)
			}
			r := FailoverReport{Report: tt.report, Scenarios: judge(append(played, Disturbance{Name: "something else"}))}
			got := ""
			if err := r.Err(); err != nil {
				got = strings.TrimPrefix(err.Error(), sc.name+": ")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Err() (-want +got):\n%s", diff)
			}
			if len(r.Scenarios) != 1 || len(r.Scenarios[0].Pauses) != len(tt.pauses) {
				t.Errorf("judge() = %+v, want the one scenario that was played", r.Scenarios)
			}
		})
	}
}

func TestSoakReport_countsFailovers(t *testing.T) {
	t.Parallel()
	r := SoakReport{Report: Report{Audits: make([]NodeAudit, 2)}}
	if err := r.Err(); err != nil {
		t.Errorf("Err() of a quiet soak = %v", err)
	}
	r.Epochs = 1
	if err := r.Err(); err == nil {
		t.Error("a failover in a soak is no error")
	}
}
