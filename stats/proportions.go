package stats

import "math"

// ProportionTest compares the conversion rates of two treatments.
type ProportionTest struct {
	Difference Effect `json:"difference"`
	Lift       Effect `json:"lift"`
	Z          Number `json:"z"`
	P          Number `json:"p"`
}

// TwoProportions compares treatment with control by
//
//   - the pooled two-proportion z test and its p-value, undefined if no unit or
//     every unit converted (Fleiss, Levin and Paik 2003, section 3.2; its square
//     is Pearson's chi-square of the 2x2 table);
//   - the interval of the difference by Newcombe's hybrid score method (Newcombe
//     1998, Statistics in Medicine 17:873, method 10). It is preferred to Wald's
//     because it stays within [-1, 1], keeps a width where nobody or everybody
//     converted, and covers as often as it says for the small rates that shops
//     have; for large counts the two agree;
//   - the lift, treatment rate / control rate - 1, with Katz's log interval
//     (Katz et al. 1978, Biometrics 34:469). The lift is undefined if nobody
//     converted in control, its interval also if nobody did in treatment or
//     everybody in both.
//
// Test and interval of the difference rest on different standard errors: close to
// alpha one may exclude zero where the other does not.
//
// Everything is undefined if a treatment has no units. Impossible counts and an
// alpha outside (0, 1) are an [*InvalidError].
func TwoProportions(control, treatment Proportion, alpha float64) (ProportionTest, error) {
	if err := control.validate("control"); err != nil {
		return ProportionTest{}, err
	}
	if err := treatment.validate("treatment"); err != nil {
		return ProportionTest{}, err
	}
	if err := validateAlpha(alpha); err != nil {
		return ProportionTest{}, err
	}
	if control.N == 0 || treatment.N == 0 {
		return ProportionTest{}, nil
	}
	critical := normalCritical(alpha)
	diff := treatment.rate() - control.rate()
	z := pooledZ(control, treatment)
	return ProportionTest{
		Difference: Effect{Estimate: number(diff), Interval: newcombe(control, treatment, critical)},
		Lift:       ratioLift(control, treatment, critical),
		Z:          number(z),
		P:          number(normalTwoSided(z)),
	}, nil
}

// pooledZ is NaN if the pooled rate is 0 or 1.
func pooledZ(c, t Proportion) float64 {
	nc, nt := float64(c.N), float64(t.N)
	successes := float64(c.Successes) + float64(t.Successes)
	failures := float64(c.N-c.Successes) + float64(t.N-t.Successes)
	n := nc + nt
	se := math.Sqrt(successes / n * (failures / n) * (1/nc + 1/nt))
	return (t.rate() - c.rate()) / se
}

// newcombe squares and adds the distances from each rate to the end of its own
// score interval.
func newcombe(c, t Proportion, z float64) Interval {
	diff := t.rate() - c.rate()
	lowC, highC := wilson(c, z)
	lowT, highT := wilson(t, z)
	return interval(
		diff-math.Hypot(t.rate()-lowT, highC-c.rate()),
		diff+math.Hypot(highT-t.rate(), c.rate()-lowC),
	)
}

// wilson is the score interval of one rate (Wilson 1927, JASA 22:209).
func wilson(p Proportion, z float64) (low, high float64) {
	n, rate := float64(p.N), p.rate()
	shrink := 1 + z*z/n
	center := (rate + z*z/(2*n)) / shrink
	half := z * math.Sqrt(rate*p.complement()/n+z*z/(4*n*n)) / shrink
	// Rounding must not move an end to the other side of the rate, nor past 0 or 1.
	return min(max(center-half, 0), rate), max(min(center+half, 1), rate)
}

func ratioLift(c, t Proportion, z float64) Effect {
	if c.Successes == 0 {
		return Effect{}
	}
	ratio := t.rate() / c.rate()
	lift := Effect{Estimate: number((t.rate() - c.rate()) / c.rate())}
	variance := t.complement()/float64(t.Successes) + c.complement()/float64(c.Successes)
	if t.Successes == 0 || variance == 0 {
		return lift
	}
	half := z * math.Sqrt(variance)
	lift.Interval = interval(math.Expm1(math.Log(ratio)-half), math.Expm1(math.Log(ratio)+half))
	return lift
}
