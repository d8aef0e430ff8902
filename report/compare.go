package report

import (
	"fmt"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/stats"
)

// assignedCount counts the units that one version of the definition assigned to a
// treatment.
type assignedCount struct {
	Treatment int16
	Version   int64
	Assigned  int64
	Exposed   int64
}

// weight is that of a treatment in one version of the definition.
type weight struct {
	Version   int64
	Treatment int16
	Weight    int64
}

// sums are the sufficient statistics of one metric in one treatment.
type sums struct {
	units, converted int64
	sum, squares     float64
}

func (s sums) proportion() stats.Proportion {
	return stats.Proportion{Successes: s.converted, N: s.units}
}

func (s sums) summary() stats.Summary {
	return stats.Summary{N: s.units, Sum: s.sum, SumSquares: s.squares}
}

// countTreatments lists the treatments as they are defined.
func countTreatments(defined []experiment.Treatment, counts []assignedCount) []Treatment {
	out := make([]Treatment, len(defined))
	for i, t := range defined {
		out[i] = Treatment{Treatment: t.Key, Control: t.Control, Weight: t.Weight}
		for _, c := range counts {
			if c.Treatment == t.No {
				out[i].Assigned += c.Assigned
				out[i].Exposed += c.Exposed
			}
		}
	}
	return out
}

// checkSplit tests the counts against what their weights let expect. Weights may
// have changed on the way: each version then adds the shares it had of the units
// that it assigned. The sum varies less than the test takes for granted, so that
// the test errs on the side of no mismatch.
func checkSplit(defined []experiment.Treatment, counts []assignedCount, weights []weight) (SRM, error) {
	totals := map[int64]int64{} // by version
	for _, w := range weights {
		totals[w.Version] += w.Weight
	}
	assigned := map[int64]int64{} // by version
	observed := map[int16]int64{}
	for _, c := range counts {
		assigned[c.Version] += c.Assigned
		observed[c.Treatment] += c.Assigned
	}
	expected := map[int16]float64{}
	for _, w := range weights {
		if w.Weight > 0 {
			expected[w.Treatment] += float64(assigned[w.Version]) * float64(w.Weight) / float64(totals[w.Version])
		}
	}
	observedUnits := make([]int64, len(defined))
	expectedUnits := make([]float64, len(defined))
	for i, t := range defined {
		observedUnits[i] = observed[t.No]
		expectedUnits[i] = expected[t.No]
		if len(counts) == 0 {
			expectedUnits[i] = float64(t.Weight)
		}
	}
	test, err := stats.ChiSquareGOF(observedUnits, expectedUnits)
	if err != nil {
		return SRM{}, fmt.Errorf("check the split of units: %w", err)
	}
	return SRM{ChiSquare: test, Mismatch: test.Mismatch()}, nil
}

// compare returns the results of all treatments, each but the control compared
// with it.
func compare(m experiment.Metric, defined []experiment.Treatment, found map[int16]sums) ([]Result, error) {
	var control sums
	for _, t := range defined {
		if t.Control {
			control = found[t.No]
		}
	}
	results := make([]Result, len(defined))
	for i, t := range defined {
		s := found[t.No]
		r := Result{Treatment: t.Key, Units: s.units, Converted: s.converted}
		if m.Kind == experiment.MetricConversion {
			r.Value, r.Variance = s.proportion().Rate(), s.proportion().Summary().Variance()
		} else {
			r.Value, r.Variance = s.summary().Mean(), s.summary().Variance()
		}
		if !t.Control {
			var err error
			if r.Comparison, err = compareTwo(m.Kind, control, s); err != nil {
				return nil, fmt.Errorf("compare treatment %q by %q: %w", t.Key, m.Key, err)
			}
		}
		results[i] = r
	}
	return results, nil
}

func compareTwo(kind experiment.MetricKind, control, treatment sums) (*Comparison, error) {
	if kind == experiment.MetricConversion {
		z, err := stats.TwoProportions(control.proportion(), treatment.proportion(), alpha)
		if err != nil {
			return nil, err
		}
		return &Comparison{Test: TestPooledZ, Difference: z.Difference, Lift: z.Lift, Statistic: z.Z, P: z.P}, nil
	}
	t, err := stats.WelchT(control.summary(), treatment.summary(), alpha)
	if err != nil {
		return nil, err
	}
	return &Comparison{Test: TestWelchT, Difference: t.Difference, Lift: t.Lift, Statistic: t.T, DF: t.DF, P: t.P}, nil
}
