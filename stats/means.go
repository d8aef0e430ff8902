package stats

import "math"

// MeanTest compares the means of a metric in two treatments.
type MeanTest struct {
	Difference Effect `json:"difference"`
	Lift       Effect `json:"lift"`
	SE         Number `json:"se"` // of the difference
	DF         Number `json:"df"`
	T          Number `json:"t"`
	P          Number `json:"p"`
	LiftSE     Number `json:"lift_se"`
}

// WelchT compares treatment with control without assuming equal variances, by
//
//   - Welch's t test with Satterthwaite's degrees of freedom (Welch 1947,
//     Biometrika 34:28; Satterthwaite 1946, Biometrics Bulletin 2:110) and the t
//     interval of the difference;
//   - the lift, difference / |control mean|, with the standard error of the delta
//     method and a normal interval (Deng, Knoblich and Lu 2018, KDD, section 3).
//     The interval is trustworthy only where the control mean is several of its
//     own standard errors away from zero.
//
// Undefined are the difference if a treatment has no units, the test and both
// intervals if one has fewer than two or neither varies, the lift if the control
// mean is zero, and its interval also if all of treatment's values are. Sums that no units can have and an alpha outside (0, 1)
// are an [*InvalidError].
func WelchT(control, treatment Summary, alpha float64) (MeanTest, error) {
	if err := control.validate("control"); err != nil {
		return MeanTest{}, err
	}
	if err := treatment.validate("treatment"); err != nil {
		return MeanTest{}, err
	}
	if err := validateAlpha(alpha); err != nil {
		return MeanTest{}, err
	}
	if control.N == 0 || treatment.N == 0 {
		return MeanTest{}, nil
	}
	meanC, meanT := control.Mean().Value, treatment.Mean().Value
	diff := meanT - meanC
	test := MeanTest{Difference: Effect{Estimate: number(diff)}}
	if meanC != 0 {
		test.Lift.Estimate = number(diff / math.Abs(meanC))
	}
	if control.N < 2 || treatment.N < 2 {
		return test, nil
	}
	squaredC := control.Variance().Value / float64(control.N)
	squaredT := treatment.Variance().Value / float64(treatment.N)
	se := math.Sqrt(squaredC + squaredT)
	if se == 0 {
		return test, nil
	}
	df := satterthwaite(squaredC, control.N, squaredT, treatment.N)
	half := studentCritical(alpha, df) * se
	test.Difference.Interval = interval(diff-half, diff+half)
	test.SE, test.DF = number(se), number(df)
	test.T, test.P = number(diff/se), number(studentTwoSided(diff/se, df))

	// By the delta method, from the variances of both means. It is 0 if the
	// treatment mean is, without varying: then it says nothing.
	liftSE := math.Hypot(math.Sqrt(squaredT), math.Sqrt(squaredC)*(meanT/meanC)) / math.Abs(meanC)
	if lift := test.Lift.Estimate; lift.Defined && liftSE > 0 {
		half := normalCritical(alpha) * liftSE
		test.LiftSE = number(liftSE)
		test.Lift.Interval = interval(lift.Value-half, lift.Value+half)
	}
	return test, nil
}

// satterthwaite takes the squared standard errors of the means. It works with
// their shares, as their squares may overflow or vanish.
func satterthwaite(squaredC float64, nC int64, squaredT float64, nT int64) float64 {
	shareC := squaredC / (squaredC + squaredT)
	shareT := squaredT / (squaredC + squaredT)
	return 1 / (shareC*shareC/float64(nC-1) + shareT*shareT/float64(nT-1))
}
