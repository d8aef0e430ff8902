package stats_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/xpd-platform/xpd/stats"
)

// workedCase is one case of the shared examples, as far as this package goes.
type workedCase struct {
	ID        string          `json:"id"`
	Method    string          `json:"method"`
	Inputs    json.RawMessage `json:"inputs"`
	Expected  json.RawMessage `json:"expected"`
	Tolerance tolerance       `json:"tolerance"`
}

type tolerance struct {
	Rel float64 `json:"rel"`
	Abs float64 `json:"abs"`
}

// want is an expected number; nil means undefined.
type want struct {
	name string
	got  stats.Number
	want *float64
}

func (tol tolerance) check(t *testing.T, wants ...want) {
	t.Helper()
	for _, w := range wants {
		switch {
		case w.want == nil:
			if w.got.Defined {
				t.Errorf("%s = %g, want it undefined", w.name, w.got.Value)
			}
		case !w.got.Defined:
			t.Errorf("%s is undefined, want %g", w.name, *w.want)
		case !(math.Abs(w.got.Value-*w.want) <= max(tol.Abs, tol.Rel*math.Abs(*w.want))): // NaN fails
			t.Errorf("%s = %.17g, want %.17g", w.name, w.got.Value, *w.want)
		}
	}
}

// checkInterval takes the expected ends, or nil if there is no interval.
func (tol tolerance) checkInterval(t *testing.T, name string, got stats.Interval, ends []float64) {
	t.Helper()
	if len(ends) != 2 {
		if got.Defined {
			t.Errorf("%s = %+v, want it undefined", name, got)
		}
		return
	}
	if got.Low > got.High {
		t.Errorf("%s = %+v is upside down", name, got)
	}
	tol.check(t,
		want{name + ".low", stats.Number{Value: got.Low, Defined: got.Defined}, &ends[0]},
		want{name + ".high", stats.Number{Value: got.High, Defined: got.Defined}, &ends[1]})
}

// TestWorkedCases compares with the examples that Python and R agree on. A p-value
// far below the absolute tolerance would pass as zero there, so it is held to the
// relative one.
func TestWorkedCases(t *testing.T) {
	t.Parallel()
	checks := map[string]func(*testing.T, workedCase){
		"two_proportion":      checkTwoProportion,
		"welch_t":             checkWelch,
		"relative_lift_means": checkLift,
		"srm_chisq":           checkSRM,
	}
	seen := map[string]int{}
	for _, c := range loadCases(t) {
		check, ours := checks[c.Method]
		if !ours {
			continue
		}
		seen[c.Method]++
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			check(t, c)
		})
	}
	for method := range checks {
		if seen[method] == 0 {
			t.Errorf("no case for %s", method)
		}
	}
}

func loadCases(t *testing.T) []workedCase {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "stats", "cases.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the worked examples are not on this machine: no %s", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []workedCase `json:"cases"`
	}
	decode(t, data, &file)
	return file.Cases
}

func decode(t *testing.T, data []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
}

func checkTwoProportion(t *testing.T, c workedCase) {
	t.Helper()
	var in struct {
		XC    int64   `json:"x_c"`
		NC    int64   `json:"n_c"`
		XT    int64   `json:"x_t"`
		NT    int64   `json:"n_t"`
		Alpha float64 `json:"alpha"`
	}
	var out struct {
		RateC    *float64  `json:"p_c"`
		RateT    *float64  `json:"p_t"`
		Diff     *float64  `json:"diff"`
		Z        *float64  `json:"z_pooled"`
		P        *float64  `json:"p_value_pooled"`
		Newcombe []float64 `json:"newcombe_ci"`
		Lift     *float64  `json:"lift"`
		Katz     []float64 `json:"lift_ci_log_ratio"`
	}
	decode(t, c.Inputs, &in)
	decode(t, c.Expected, &out)
	control := stats.Proportion{Successes: in.XC, N: in.NC}
	treatment := stats.Proportion{Successes: in.XT, N: in.NT}
	got, err := stats.TwoProportions(control, treatment, in.Alpha)
	if err != nil {
		t.Fatal(err)
	}
	c.Tolerance.check(t,
		want{"control rate", control.Rate(), out.RateC},
		want{"treatment rate", treatment.Rate(), out.RateT},
		want{"difference", got.Difference.Estimate, out.Diff},
		want{"z", got.Z, out.Z},
		want{"lift", got.Lift.Estimate, out.Lift})
	tolerance{Rel: c.Tolerance.Rel}.check(t, want{"p", got.P, out.P})
	c.Tolerance.checkInterval(t, "difference", got.Difference.Interval, out.Newcombe)
	c.Tolerance.checkInterval(t, "lift", got.Lift.Interval, out.Katz)
}

func checkWelch(t *testing.T, c workedCase) {
	t.Helper()
	var in struct {
		Control   []float64 `json:"control"`
		Treatment []float64 `json:"treatment"`
		Alpha     float64   `json:"alpha"`
	}
	var out struct {
		Diff  *float64  `json:"diff"`
		SE    *float64  `json:"se"`
		DF    *float64  `json:"df"`
		T     *float64  `json:"t"`
		P     *float64  `json:"p_value"`
		CI    []float64 `json:"ci"`
		MeanC *float64  `json:"mean_c"`
		VarC  *float64  `json:"var_c"`
		MeanT *float64  `json:"mean_t"`
		VarT  *float64  `json:"var_t"`
	}
	decode(t, c.Inputs, &in)
	decode(t, c.Expected, &out)
	control, treatment := summarize(in.Control), summarize(in.Treatment)
	got, err := stats.WelchT(control, treatment, in.Alpha)
	if err != nil {
		t.Fatal(err)
	}
	c.Tolerance.check(t,
		want{"control mean", control.Mean(), out.MeanC},
		want{"control variance", control.Variance(), out.VarC},
		want{"treatment mean", treatment.Mean(), out.MeanT},
		want{"treatment variance", treatment.Variance(), out.VarT},
		want{"difference", got.Difference.Estimate, out.Diff},
		want{"se", got.SE, out.SE},
		want{"df", got.DF, out.DF},
		want{"t", got.T, out.T})
	tolerance{Rel: c.Tolerance.Rel}.check(t, want{"p", got.P, out.P})
	c.Tolerance.checkInterval(t, "difference", got.Difference.Interval, out.CI)
}

func checkLift(t *testing.T, c workedCase) {
	t.Helper()
	var in struct {
		NC    int64   `json:"n_c"`
		MeanC float64 `json:"mean_c"`
		VarC  float64 `json:"var_c"`
		NT    int64   `json:"n_t"`
		MeanT float64 `json:"mean_t"`
		VarT  float64 `json:"var_t"`
		Alpha float64 `json:"alpha"`
	}
	var out struct {
		Lift *float64  `json:"lift"`
		SE   *float64  `json:"se_delta"`
		CI   []float64 `json:"ci_delta"`
	}
	decode(t, c.Inputs, &in)
	decode(t, c.Expected, &out)
	got, err := stats.WelchT(fromMoments(in.NC, in.MeanC, in.VarC), fromMoments(in.NT, in.MeanT, in.VarT), in.Alpha)
	if err != nil {
		t.Fatal(err)
	}
	c.Tolerance.check(t, want{"lift", got.Lift.Estimate, out.Lift}, want{"lift se", got.LiftSE, out.SE})
	c.Tolerance.checkInterval(t, "lift", got.Lift.Interval, out.CI)
}

func checkSRM(t *testing.T, c workedCase) {
	t.Helper()
	var in struct {
		Observed []int64   `json:"observed"`
		Weights  []float64 `json:"weights"`
	}
	var out struct {
		Statistic *float64 `json:"chi2"`
		DF        int      `json:"df"`
		P         *float64 `json:"p_value"`
	}
	decode(t, c.Inputs, &in)
	decode(t, c.Expected, &out)
	got, err := stats.ChiSquareGOF(in.Observed, in.Weights)
	if err != nil {
		t.Fatal(err)
	}
	c.Tolerance.check(t, want{"statistic", got.Statistic, out.Statistic})
	tolerance{Rel: c.Tolerance.Rel}.check(t, want{"p", got.P, out.P})
	if got.DF != out.DF {
		t.Errorf("DF = %d, want %d", got.DF, out.DF)
	}
	// The order of the treatments says nothing.
	slices.Reverse(in.Observed)
	slices.Reverse(in.Weights)
	if reversed, err := stats.ChiSquareGOF(in.Observed, in.Weights); err != nil || reversed.DF != got.DF {
		t.Errorf("reversed: %+v, %v", reversed, err)
	} else {
		c.Tolerance.check(t, want{"reversed p", reversed.P, out.P})
	}
}

func summarize(values []float64) stats.Summary {
	var s stats.Summary
	for _, v := range values {
		s = s.Merge(stats.Summary{N: 1, Sum: v, SumSquares: v * v})
	}
	return s
}

func fromMoments(n int64, mean, variance float64) stats.Summary {
	units := float64(n)
	return stats.Summary{N: n, Sum: units * mean, SumSquares: (units-1)*variance + units*mean*mean}
}
