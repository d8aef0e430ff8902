package stats

import (
	"fmt"
	"math"
)

// Summary holds the sufficient statistics of a metric over the units of one
// treatment: all that its mean and variance depend on.
//
// The sums must be right to the last digits of a float64, which they are when the
// database adds bigint or numeric values; errors of a long float8 addition would
// come back as variance.
type Summary struct {
	N          int64   // units, those with value zero included
	Sum        float64 // of the units' values
	SumSquares float64 // of the squares of the units' values
}

const (
	epsilon = 0x1p-52

	// noise bounds the rounding of Sum and SumSquares, relative to SumSquares.
	// What is left below it is no variation of the units.
	noise = 16 * epsilon

	// inconsistent is the deficit, relative to SumSquares, that rounding cannot
	// explain any more: the two sums do not belong together.
	inconsistent = 1e-9
)

// Merge returns the summary of the units of both, which must be disjoint.
func (s Summary) Merge(o Summary) Summary {
	return Summary{N: s.N + o.N, Sum: s.Sum + o.Sum, SumSquares: s.SumSquares + o.SumSquares}
}

// Mean is undefined without units.
func (s Summary) Mean() Number {
	if s.N < 1 {
		return Number{}
	}
	return number(s.Sum / float64(s.N))
}

// Variance is the sample variance, with divisor N-1; it is undefined for fewer
// than two units. Variation too small to be told from the rounding of the sums
// (a coefficient of variation below 6e-8) is 0: otherwise a constant such as 0.1
// would have a tiny variance and every difference would be significant.
func (s Summary) Variance() Number {
	if s.N < 2 {
		return Number{}
	}
	deviations := s.deviations()
	if deviations <= noise*s.SumSquares {
		return number(0)
	}
	return number(deviations / float64(s.N-1))
}

// deviations is the sum of squared deviations from the mean, (N·SumSquares - Sum²)/N,
// which the rounding of the sums can make negative. Hardly anything may be left of
// the two products after the subtraction, so FMA adds back what rounding took from
// them: from sums of whole numbers it is right to the last digits.
func (s Summary) deviations() float64 {
	n := float64(s.N)
	scaled, squared := n*s.SumSquares, s.Sum*s.Sum
	lost := math.FMA(n, s.SumSquares, -scaled) - math.FMA(s.Sum, s.Sum, -squared)
	return (scaled - squared + lost) / n
}

func (s Summary) validate(field string) error {
	invalid := func(format string, args ...any) error {
		return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case s.N < 0:
		return invalid("%d units", s.N)
	case !number(s.Sum).Defined || !number(s.SumSquares).Defined:
		return invalid("sums %g and %g are not finite", s.Sum, s.SumSquares)
	case s.SumSquares < 0:
		return invalid("sum of squares %g is negative", s.SumSquares)
	case s.N == 0 && (s.Sum != 0 || s.SumSquares != 0):
		return invalid("sums %g and %g without units", s.Sum, s.SumSquares)
	case s.N > 0 && s.deviations() < -inconsistent*s.SumSquares:
		return invalid("sum %g of %d units is too large for sum of squares %g", s.Sum, s.N, s.SumSquares)
	}
	return nil
}

// Proportion counts the units of one treatment and those that converted.
type Proportion struct {
	Successes int64
	N         int64
}

// Rate is undefined without units.
func (p Proportion) Rate() Number {
	if p.N < 1 {
		return Number{}
	}
	return number(p.rate())
}

// Summary returns the conversion as a metric which is 1 for the units that
// converted and 0 for the others.
func (p Proportion) Summary() Summary {
	x := float64(p.Successes)
	return Summary{N: p.N, Sum: x, SumSquares: x}
}

func (p Proportion) rate() float64 { return float64(p.Successes) / float64(p.N) }

// complement is 1 - rate, without the digits that a subtraction loses.
func (p Proportion) complement() float64 { return float64(p.N-p.Successes) / float64(p.N) }

func (p Proportion) validate(field string) error {
	switch {
	case p.N < 0:
		return &InvalidError{Field: field, Reason: fmt.Sprintf("%d units", p.N)}
	case p.Successes < 0:
		return &InvalidError{Field: field, Reason: fmt.Sprintf("%d successes", p.Successes)}
	case p.Successes > p.N:
		return &InvalidError{Field: field, Reason: fmt.Sprintf("%d successes of %d units", p.Successes, p.N)}
	}
	return nil
}
