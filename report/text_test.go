package report_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/report"
	"github.com/xpd-platform/xpd/stats"
)

const alpha = 0.05

// arm is what one treatment did, by one metric.
type arm struct {
	key          string
	units        int64
	sum, squares float64
	converted    int64
}

func conversionResults(t *testing.T, arms ...arm) []report.Result {
	t.Helper()
	control := stats.Proportion{Successes: arms[0].converted, N: arms[0].units}
	var out []report.Result
	for i, a := range arms {
		p := stats.Proportion{Successes: a.converted, N: a.units}
		r := report.Result{Treatment: a.key, Units: a.units, Converted: a.converted, Value: p.Rate()}
		if i > 0 {
			z, err := stats.TwoProportions(control, p, alpha)
			if err != nil {
				t.Fatal(err)
			}
			r.Comparison = &report.Comparison{Test: report.TestPooledZ, Difference: z.Difference, Lift: z.Lift, Statistic: z.Z, P: z.P}
		}
		out = append(out, r)
	}
	return out
}

func meanResults(t *testing.T, arms ...arm) []report.Result {
	t.Helper()
	control := stats.Summary{N: arms[0].units, Sum: arms[0].sum, SumSquares: arms[0].squares}
	var out []report.Result
	for i, a := range arms {
		s := stats.Summary{N: a.units, Sum: a.sum, SumSquares: a.squares}
		r := report.Result{Treatment: a.key, Units: a.units, Value: s.Mean()}
		if i > 0 {
			w, err := stats.WelchT(control, s, alpha)
			if err != nil {
				t.Fatal(err)
			}
			r.Comparison = &report.Comparison{Test: report.TestWelchT, Difference: w.Difference, Lift: w.Lift, Statistic: w.T, DF: w.DF, P: w.P}
		}
		out = append(out, r)
	}
	return out
}

func sampleReport(t *testing.T) report.Report {
	t.Helper()
	split, err := stats.ChiSquareGOF([]int64{44_700, 45_489, 12}, []float64{1, 1, 0.01})
	if err != nil {
		t.Fatal(err)
	}
	const long = "a_treatment_with_a_name_of_the_greatest_length_that_there_may_be"
	cats := func(converted30, converted40, converted50 int64) []report.Result {
		return conversionResults(t,
			arm{key: "gate_30", units: 44_700, converted: converted30},
			arm{key: "gate_40", units: 45_489, converted: converted40},
			arm{key: long, units: 12, converted: converted50})
	}
	return report.Report{
		Experiment: "cookie-cats", State: experiment.StatePaused, Version: 3, Run: 1, Alpha: alpha,
		StartedAt: time.Date(2026, 11, 21, 20, 15, 0, 0, time.UTC),
		Treatments: []report.Treatment{
			{Treatment: "gate_30", Control: true, Weight: 1_000_000, Assigned: 44_700, Exposed: 44_700},
			{Treatment: "gate_40", Weight: 1_000_000, Assigned: 45_489, Exposed: 45_489},
			{Treatment: long, Weight: 10_000, Assigned: 12, Exposed: 12},
		},
		SRM: report.SRM{ChiSquare: split, Mismatch: split.Mismatch()},
		Metrics: []report.Metric{
			{Metric: "retention_1", Kind: experiment.MetricConversion, Event: "retention_1", Results: cats(20_034, 20_119, 0)},
			{Metric: "rare", Kind: experiment.MetricConversion, Event: "rare", Results: cats(1, 3, 12)},
			{Metric: "rounds", Kind: experiment.MetricMean, Event: "rounds", Results: meanResults(t,
				arm{key: "gate_30", units: 44_700, sum: 2_344_795, squares: 3.0688e9},
				arm{key: "gate_40", units: 45_489, sum: 2_333_530, squares: 6.0505e8},
				arm{key: long, units: 12, sum: 0, squares: 0})},
			{Metric: "sales", Kind: experiment.MetricSales, Event: "purchase", Currency: "JPY", Results: meanResults(t,
				arm{key: "gate_30", units: 44_700, sum: 5.5e11, squares: 9e18},
				arm{key: "gate_40", units: 45_489, sum: 6.1e10, squares: 1e17},
				arm{key: long, units: 12, sum: -1.5e13, squares: 2e25})},
			{Metric: "mixed", Kind: experiment.MetricSales, Event: "purchase", Problem: "sales in EUR and USD cannot be added up"},
		},
	}
}

// TestReport_WriteText compares with testdata/report.txt; UPDATE=1 rewrites it.
func TestReport_WriteText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sampleReport(t).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/report.txt"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("text (-golden +got):\n%s", diff)
	}
	for line := range strings.SplitSeq(b.String(), "\n") {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
}

func TestReport_JSON(t *testing.T) {
	t.Parallel()
	want := sampleReport(t)
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got report.Report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after its way through JSON (-want +got):\n%s", diff)
	}
	if !strings.Contains(string(text), `"srm":{"statistic":`) {
		t.Errorf("the check of the split is not one object: %s", text)
	}
}
