package stats_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/xpd-platform/xpd/stats"
)

var (
	exact = tolerance{Rel: 1e-9, Abs: 1e-12}
	nan   = math.NaN()
	inf   = math.Inf(1)
)

// TestTwoProportions_newcombe has the examples of Newcombe's table II, which gives
// four digits; the larger rate is the treatment's.
func TestTwoProportions_newcombe(t *testing.T) {
	t.Parallel()
	tests := []struct {
		treatment, control stats.Proportion
		low, high          float64
	}{
		{stats.Proportion{Successes: 56, N: 70}, stats.Proportion{Successes: 48, N: 80}, 0.0524, 0.3339},
		{stats.Proportion{Successes: 9, N: 10}, stats.Proportion{Successes: 3, N: 10}, 0.1705, 0.8090},
		{stats.Proportion{Successes: 6, N: 7}, stats.Proportion{Successes: 2, N: 7}, 0.0582, 0.8062},
		{stats.Proportion{Successes: 5, N: 56}, stats.Proportion{Successes: 0, N: 29}, -0.0381, 0.1926},
		{stats.Proportion{Successes: 0, N: 10}, stats.Proportion{Successes: 0, N: 20}, -0.1611, 0.2775},
		{stats.Proportion{Successes: 0, N: 10}, stats.Proportion{Successes: 0, N: 10}, -0.2775, 0.2775},
		{stats.Proportion{Successes: 10, N: 10}, stats.Proportion{Successes: 0, N: 20}, 0.6791, 1},
		{stats.Proportion{Successes: 10, N: 10}, stats.Proportion{Successes: 0, N: 10}, 0.6075, 1},
	}
	for _, tt := range tests {
		got := mustProportions(t, tt.control, tt.treatment)
		tolerance{Abs: 0.00005}.checkInterval(t, "difference", got.Difference.Interval, []float64{tt.low, tt.high})
	}
}

func TestTwoProportions_edges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                                  string
		control, treatment                    stats.Proportion
		diff, diffInterval, p, lift, liftEnds bool // what is defined
	}{
		{"no units at all", stats.Proportion{}, stats.Proportion{}, false, false, false, false, false},
		{"no units in control", stats.Proportion{}, stats.Proportion{Successes: 1, N: 9}, false, false, false, false, false},
		{"nobody converted", stats.Proportion{N: 9}, stats.Proportion{N: 9}, true, true, false, false, false},
		{"everybody converted", stats.Proportion{Successes: 9, N: 9}, stats.Proportion{Successes: 7, N: 7}, true, true, false, true, false},
		{"nobody in control", stats.Proportion{N: 9}, stats.Proportion{Successes: 2, N: 9}, true, true, true, false, false},
		{"nobody in treatment", stats.Proportion{Successes: 2, N: 9}, stats.Proportion{N: 9}, true, true, true, true, false},
		{"everybody in treatment", stats.Proportion{Successes: 2, N: 9}, stats.Proportion{Successes: 9, N: 9}, true, true, true, true, true},
		{"one unit each", stats.Proportion{Successes: 1, N: 1}, stats.Proportion{N: 1}, true, true, true, true, false},
		{"as many units as fit", stats.Proportion{Successes: 1, N: math.MaxInt64}, stats.Proportion{Successes: math.MaxInt64 - 1, N: math.MaxInt64}, true, true, true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := mustProportions(t, tt.control, tt.treatment)
			wantDefined(t, "difference", got.Difference.Estimate.Defined, tt.diff)
			wantDefined(t, "difference interval", got.Difference.Interval.Defined, tt.diffInterval)
			wantDefined(t, "z", got.Z.Defined, tt.p)
			wantDefined(t, "p", got.P.Defined, tt.p)
			wantDefined(t, "lift", got.Lift.Estimate.Defined, tt.lift)
			wantDefined(t, "lift interval", got.Lift.Interval.Defined, tt.liftEnds)
			wantJSON(t, got)
		})
	}
}

// TestTwoProportions_pearson: the square of z is the chi-square of the 2x2 table.
func TestTwoProportions_pearson(t *testing.T) {
	t.Parallel()
	got := mustProportions(t, stats.Proportion{Successes: 30, N: 100}, stats.Proportion{Successes: 45, N: 110})
	// n (ad - bc)² over the product of the four margins.
	chi := 210.0 * (45*70 - 30*65) * (45*70 - 30*65) / (100 * 110 * 75 * 135)
	if z := got.Z.Value; math.Abs(z*z-chi) > 1e-12 {
		t.Errorf("z² = %.15g, want %.15g", z*z, chi)
	}
}

func TestTwoProportions_swap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		a, b := randomProportion(rng), randomProportion(rng)
		ab, ba := mustProportions(t, a, b), mustProportions(t, b, a)
		mirrored(t, seed, ab.Difference, ba.Difference)
		if ab.P != ba.P {
			t.Errorf("seed %d: p %v and %v", seed, ab.P, ba.P)
		}
		if i := ab.Difference.Interval; i.Defined && (i.Low < -1 || i.High > 1) {
			t.Errorf("seed %d: %+v is outside [-1, 1]", seed, i)
		}
		contains(t, seed, ab.Difference)
		contains(t, seed, ab.Lift)
		if l, r := ab.Lift.Interval, ba.Lift.Interval; l.Defined {
			ends := []float64{1/(1+r.High) - 1, 1/(1+r.Low) - 1}
			exact.checkInterval(t, "lift of the swapped", l, ends)
		}
	}
}

func TestWelchT_edges(t *testing.T) {
	t.Parallel()
	varied := summarize([]float64{1, 2, 4})
	tests := []struct {
		name                       string
		control, treatment         stats.Summary
		diff, test, lift, liftEnds bool // what is defined
	}{
		{"no units at all", stats.Summary{}, stats.Summary{}, false, false, false, false},
		{"no units in control", stats.Summary{}, varied, false, false, false, false},
		{"one unit in treatment", varied, summarize([]float64{3}), true, false, true, false},
		{"all equal", summarize([]float64{3, 3}), summarize([]float64{4, 4}), true, false, true, false},
		{"all equal but for rounding", summarize([]float64{0.1, 0.1, 0.1}), summarize([]float64{0.7, 0.7, 0.7}), true, false, true, false},
		{"all zero", summarize([]float64{0, 0}), summarize([]float64{0, 0}), true, false, false, false},
		{"control is zero", summarize([]float64{0, 0}), varied, true, true, false, false},
		{"treatment is zero", varied, summarize([]float64{0, 0}), true, true, true, false},
		{"control averages zero", summarize([]float64{-1, 1}), varied, true, true, false, false},
		{"only treatment varies", summarize([]float64{3, 3}), varied, true, true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := mustWelch(t, tt.control, tt.treatment)
			wantDefined(t, "difference", got.Difference.Estimate.Defined, tt.diff)
			for name, n := range map[string]bool{
				"difference interval": got.Difference.Interval.Defined,
				"se":                  got.SE.Defined,
				"df":                  got.DF.Defined,
				"t":                   got.T.Defined,
				"p":                   got.P.Defined,
			} {
				wantDefined(t, name, n, tt.test)
			}
			wantDefined(t, "lift", got.Lift.Estimate.Defined, tt.lift)
			wantDefined(t, "lift se", got.LiftSE.Defined, tt.liftEnds)
			wantDefined(t, "lift interval", got.Lift.Interval.Defined, tt.liftEnds)
			wantJSON(t, got)
		})
	}
}

// TestWelchT_oneConstant: what does not vary has no part in the degrees of freedom.
func TestWelchT_oneConstant(t *testing.T) {
	t.Parallel()
	got := mustWelch(t, summarize([]float64{3, 3}), summarize([]float64{1, 2, 4, 9}))
	df := 3.0
	exact.check(t, want{"df", got.DF, &df})
}

// TestWelchT_negativeControl: a lift keeps the sign of the difference.
func TestWelchT_negativeControl(t *testing.T) {
	t.Parallel()
	got := mustWelch(t, summarize([]float64{-4, -2, -6}), summarize([]float64{-1, -3, -2}))
	lift := 0.5
	exact.check(t, want{"lift", got.Lift.Estimate, &lift})
	contains(t, 0, got.Lift)
}

func TestWelchT_swap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		a, b := summarize(randomValues(rng)), summarize(randomValues(rng))
		ab, ba := mustWelch(t, a, b), mustWelch(t, b, a)
		mirrored(t, seed, ab.Difference, ba.Difference)
		contains(t, seed, ab.Difference)
		contains(t, seed, ab.Lift)
		tolerance{Rel: 1e-12}.check(t, want{"p of the swapped", ab.P, value(ba.P)})
		if ab.P.Defined && (ab.P.Value < 0.05) != excludesZero(ab.Difference.Interval) {
			t.Errorf("seed %d: p %g but interval %+v", seed, ab.P.Value, ab.Difference.Interval)
		}
		if smaller := float64(min(a.N, b.N) - 1); ab.DF.Defined && ab.DF.Value < smaller*(1-1e-12) {
			t.Errorf("seed %d: df %g is below %g", seed, ab.DF.Value, smaller)
		}
	}
}

// TestSummary_merge: with whole numbers the sums are exact, so merging is
// associative, commutative and equal to counting all at once.
func TestSummary_merge(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 3))
		x, y, z := randomValues(rng), randomValues(rng), randomValues(rng)
		a, b, c := summarize(x), summarize(y), summarize(z)
		all := summarize(append(append(append([]float64{}, x...), y...), z...))
		left, right := a.Merge(b).Merge(c), c.Merge(b).Merge(a)
		if left != all || right != all || a.Merge(b.Merge(c)) != all {
			t.Errorf("seed %d: %+v, %+v, want %+v", seed, left, right, all)
		}
	}
}

// TestSummary_variance compares with the sum of squared deviations, for values far
// from zero too.
func TestSummary_variance(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 4))
		shift := float64(rng.IntN(4)) * 1e5
		values := randomValues(rng)
		for i := range values {
			values[i] += shift
		}
		s := summarize(values)
		if s.N < 2 {
			wantDefined(t, "variance", s.Variance().Defined, false)
			continue
		}
		var deviations float64
		for _, v := range values {
			deviations += (v - s.Mean().Value) * (v - s.Mean().Value)
		}
		variance := deviations / float64(s.N-1)
		exact.check(t, want{"variance", s.Variance(), &variance})
	}
}

func TestProportion_Summary(t *testing.T) {
	t.Parallel()
	p := stats.Proportion{Successes: 3, N: 4}
	mean, variance := 0.75, 0.25
	exact.check(t,
		want{"mean", p.Summary().Mean(), &mean},
		want{"variance", p.Summary().Variance(), &variance},
		want{"rate", p.Rate(), &mean},
		want{"rate without units", stats.Proportion{}.Rate(), nil},
		want{"mean without units", stats.Summary{}.Mean(), nil})
}

func TestChiSquareGOF(t *testing.T) {
	t.Parallel()
	number := func(v float64) *float64 { return &v }
	tests := []struct {
		name         string
		observed     []int64
		weights      []float64
		df           int
		statistic, p *float64
		mismatch     bool
	}{
		{"as the weights say", []int64{50, 50}, []float64{1, 1}, 1, number(0), number(1), false},
		{"weights need no sum of one", []int64{20, 30, 50}, []float64{1, 1, 2}, 2, number(2), number(math.Exp(-1)), false},
		{"far out", []int64{600, 200}, []float64{3, 3}, 1, number(200), number(2.0884875837625448e-45), true},
		{"cookie cats", []int64{44700, 45489}, []float64{0.5, 0.5}, 1, number(789.0 * 789 / 90189), number(math.Erfc(789 / math.Sqrt(2*90189))), false},
		{"nothing observed", []int64{0, 0}, []float64{1, 1}, 1, nil, nil, false},
		{"one treatment", []int64{7}, []float64{1}, 0, nil, nil, false},
		{"closed treatment without units", []int64{50, 0, 50}, []float64{1, 0, 1}, 1, number(0), number(1), false},
		{"units where there is no weight", []int64{50, 1, 50}, []float64{1, 0, 1}, 1, nil, number(0), true},
		{"units where there is hardly a weight", []int64{5, 5}, []float64{1e300, 1e-300}, 0, nil, number(0), true},
		{"many units where there is hardly a weight", []int64{5, 1e10}, []float64{1, 1e-300}, 1, nil, number(0), true},
		{"huge weights", []int64{50, 50}, []float64{math.MaxFloat64, math.MaxFloat64}, 1, number(0), number(1), false},
		{"huge counts", []int64{math.MaxInt64, math.MaxInt64}, []float64{1, 3}, 1, number(math.MaxInt64 * 2.0 / 3), number(0), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := stats.ChiSquareGOF(tt.observed, tt.weights)
			if err != nil {
				t.Fatal(err)
			}
			exact.check(t, want{"statistic", got.Statistic, tt.statistic})
			tolerance{Rel: 1e-9}.check(t, want{"p", got.P, tt.p})
			if got.DF != tt.df || got.Mismatch() != tt.mismatch {
				t.Errorf("got %+v, mismatch %t; want df %d, mismatch %t", got, got.Mismatch(), tt.df, tt.mismatch)
			}
			wantJSON(t, got)
		})
	}
}

func TestInvalidInput(t *testing.T) {
	t.Parallel()
	fine, metric := stats.Proportion{Successes: 1, N: 2}, stats.Summary{N: 2, Sum: 3, SumSquares: 5}
	proportions := func(c, t stats.Proportion, alpha float64) func() error {
		return func() error { _, err := stats.TwoProportions(c, t, alpha); return err }
	}
	welch := func(c, t stats.Summary, alpha float64) func() error {
		return func() error { _, err := stats.WelchT(c, t, alpha); return err }
	}
	gof := func(observed []int64, weights ...float64) func() error {
		return func() error { _, err := stats.ChiSquareGOF(observed, weights); return err }
	}
	tests := []struct {
		name  string
		call  func() error
		field string
	}{
		{"more successes than units", proportions(stats.Proportion{Successes: 3, N: 2}, fine, 0.05), "control"},
		{"negative successes", proportions(fine, stats.Proportion{Successes: -1, N: 2}, 0.05), "treatment"},
		{"negative units", proportions(stats.Proportion{Successes: -3, N: -2}, fine, 0.05), "control"},
		{"alpha 0", proportions(fine, fine, 0), "alpha"},
		{"alpha 1", welch(metric, metric, 1), "alpha"},
		{"alpha not a number", welch(metric, metric, nan), "alpha"},
		{"alpha checked without units", proportions(stats.Proportion{}, stats.Proportion{}, 5), "alpha"},
		{"negative units of a metric", welch(stats.Summary{N: -1}, metric, 0.05), "control"},
		{"sum not a number", welch(metric, stats.Summary{N: 1, Sum: nan}, 0.05), "treatment"},
		{"infinite sum of squares", welch(metric, stats.Summary{N: 1, Sum: 1, SumSquares: inf}, 0.05), "treatment"},
		{"negative sum of squares", welch(metric, stats.Summary{N: 1, SumSquares: -1}, 0.05), "treatment"},
		{"a sum without units", welch(stats.Summary{Sum: 1, SumSquares: 1}, metric, 0.05), "control"},
		{"a sum too large for its squares", welch(stats.Summary{N: 2, Sum: 10, SumSquares: 49}, metric, 0.05), "control"},
		{"different lengths", gof([]int64{1, 2}, 1), "weights"},
		{"no category", gof(nil), "weights"},
		{"no positive weight", gof([]int64{0, 0}, 0, 0), "weights"},
		{"negative weight", gof([]int64{1, 1}, 2, -1), "weights"},
		{"weight not a number", gof([]int64{1, 1}, 2, nan), "weights"},
		{"infinite weight", gof([]int64{1, 1}, 2, inf), "weights"},
		{"negative count", gof([]int64{1, -1}, 2, 1), "observed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			invalid, ok := errors.AsType[*stats.InvalidError](tt.call())
			if !ok || invalid.Field != tt.field {
				t.Errorf("got %v, want an InvalidError of %s", invalid, tt.field)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	effects := map[string]stats.Effect{
		`{"estimate":null,"interval":null}`: {},
		`{"estimate":-1,"interval":null}`:   {Estimate: stats.Number{Value: -1, Defined: true}},
		`{"estimate":0,"interval":{"low":-0.5,"high":0}}`: {
			Estimate: stats.Number{Defined: true},
			Interval: stats.Interval{Low: -0.5, Defined: true},
		},
	}
	for text, effect := range effects {
		data, err := json.Marshal(effect)
		if err != nil || string(data) != text {
			t.Errorf("Marshal(%+v) = %s, %v; want %s", effect, data, err, text)
		}
		back := stats.Effect{Estimate: stats.Number{Value: 9, Defined: true}, Interval: stats.Interval{High: 9, Defined: true}}
		if err := json.Unmarshal([]byte(text), &back); err != nil || back != effect {
			t.Errorf("Unmarshal(%s) = %+v, %v; want %+v", text, back, err, effect)
		}
	}
	for _, broken := range []string{`{"interval":{"low":1}}`, `{"interval":3}`, `{"estimate":"1"}`} {
		if err := json.Unmarshal([]byte(broken), new(stats.Effect)); err == nil {
			t.Errorf("Unmarshal(%s) succeeded", broken)
		}
	}
}

func mustProportions(t *testing.T, control, treatment stats.Proportion) stats.ProportionTest {
	t.Helper()
	got, err := stats.TwoProportions(control, treatment, 0.05)
	if err != nil {
		t.Fatalf("TwoProportions(%+v, %+v): %v", control, treatment, err)
	}
	return got
}

func mustWelch(t *testing.T, control, treatment stats.Summary) stats.MeanTest {
	t.Helper()
	got, err := stats.WelchT(control, treatment, 0.05)
	if err != nil {
		t.Fatalf("WelchT(%+v, %+v): %v", control, treatment, err)
	}
	return got
}

// randomProportion is often at an edge.
func randomProportion(rng *rand.Rand) stats.Proportion {
	n := rng.Int64N(1 << rng.IntN(40))
	switch rng.IntN(5) {
	case 0:
		return stats.Proportion{N: n}
	case 1:
		return stats.Proportion{Successes: n, N: n}
	default:
		return stats.Proportion{Successes: rng.Int64N(n + 1), N: n}
	}
}

// randomValues are up to 30 whole numbers, possibly none or all the same.
func randomValues(rng *rand.Rand) []float64 {
	values := make([]float64, rng.IntN(30))
	spread := 1 + rng.IntN(100)
	for i := range values {
		values[i] = float64(rng.IntN(spread) - spread/3)
	}
	return values
}

func mirrored(t *testing.T, seed uint64, a, b stats.Effect) {
	t.Helper()
	if a.Estimate.Defined != b.Estimate.Defined || a.Interval.Defined != b.Interval.Defined ||
		a.Estimate.Value != -b.Estimate.Value ||
		math.Abs(a.Interval.Low+b.Interval.High) > 1e-12 || math.Abs(a.Interval.High+b.Interval.Low) > 1e-12 {
		t.Errorf("seed %d: %+v is not the mirror image of %+v", seed, a, b)
	}
}

func contains(t *testing.T, seed uint64, e stats.Effect) {
	t.Helper()
	const rounding = 1e-12
	if e.Interval.Defined && (!e.Estimate.Defined ||
		e.Estimate.Value < e.Interval.Low-rounding || e.Estimate.Value > e.Interval.High+rounding) {
		t.Errorf("seed %d: %+v is outside its interval", seed, e)
	}
}

func excludesZero(i stats.Interval) bool { return i.Low > 0 || i.High < 0 }

func value(n stats.Number) *float64 {
	if !n.Defined {
		return nil
	}
	return &n.Value
}

func wantDefined(t *testing.T, name string, got, want bool) {
	t.Helper()
	if got != want {
		t.Errorf("%s defined: %t, want %t", name, got, want)
	}
}

// wantJSON: a report must never fail on a result.
func wantJSON(t *testing.T, v any) {
	t.Helper()
	if _, err := json.Marshal(v); err != nil {
		t.Errorf("Marshal(%+v): %v", v, err)
	}
}
