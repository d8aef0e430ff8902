package stats

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// SRMThreshold is the p-value below which a split counts as a sample ratio
// mismatch. It is far stricter than 0.05 because every report of every experiment
// makes the check, and because real mismatches have p-values far below it (Fabijan
// et al. 2019, "Diagnosing Sample Ratio Mismatch in Online Controlled
// Experiments", KDD, who ask for a conservative threshold; Kohavi, Tang and Xu
// 2020, "Trustworthy Online Controlled Experiments", chapter 21, use 0.001).
const SRMThreshold = 0.001

// ChiSquare is a chi-square test.
type ChiSquare struct {
	Statistic Number `json:"statistic"`
	DF        int    `json:"df"`
	P         Number `json:"p"`
}

// Mismatch reports whether the counts contradict the weights so strongly that the
// experiment's other results must not be trusted. An undefined test is no evidence.
func (c ChiSquare) Mismatch() bool { return c.P.Defined && c.P.Value < SRMThreshold }

// ChiSquareGOF tests whether observed counts follow the weights, which need not
// add up to 1 (Pearson 1900, Philosophical Magazine 50:157). The weights must have
// been in force while all of the counted units were assigned. The p-value is an
// approximation that asks for about five expected units per category.
//
// A category of weight zero must stay empty and does not count in DF. If it has
// units, the counts are impossible under the weights: P is 0 and the statistic,
// being infinite, is undefined. Statistic and P are undefined if nothing was
// observed, or if only one category has a weight.
//
// Slices of different length, negative counts, negative or non-finite weights and
// a lack of positive weights are an [*InvalidError].
func ChiSquareGOF(observed []int64, weights []float64) (ChiSquare, error) {
	if err := validateSplit(observed, weights); err != nil {
		return ChiSquare{}, err
	}
	shares := normalize(weights)
	df := -1
	var units, strays float64
	for i, share := range shares {
		units += float64(observed[i])
		if share > 0 {
			df++
		} else {
			strays += float64(observed[i])
		}
	}
	switch {
	case strays > 0:
		return ChiSquare{DF: df, P: number(0)}, nil
	case units == 0 || df == 0:
		return ChiSquare{DF: df}, nil
	}
	var statistic float64
	for i, share := range shares {
		if share > 0 {
			expected := units * share
			deviation := float64(observed[i]) - expected
			statistic += deviation * (deviation / expected)
		}
	}
	p := 0.0
	if !math.IsInf(statistic, 1) { // as a share close to 0 can make it
		p = mathext.GammaIncRegComp(float64(df)/2, statistic/2)
	}
	return ChiSquare{Statistic: number(statistic), DF: df, P: number(p)}, nil
}

// normalize scales the weights to a sum of 1, without overflow on the way.
func normalize(weights []float64) []float64 {
	largest := slices.Max(weights)
	var sum float64
	for _, w := range weights {
		sum += w / largest
	}
	shares := make([]float64, len(weights))
	for i, w := range weights {
		shares[i] = w / largest / sum
	}
	return shares
}

func validateSplit(observed []int64, weights []float64) error {
	if len(observed) != len(weights) {
		return &InvalidError{Field: "weights", Reason: fmt.Sprintf("%d for %d counts", len(weights), len(observed))}
	}
	for i, o := range observed {
		if o < 0 {
			return &InvalidError{Field: "observed", Reason: fmt.Sprintf("count %d of category %d is negative", o, i)}
		}
	}
	positive := false
	for i, w := range weights {
		if !(w >= 0) || math.IsInf(w, 1) {
			return &InvalidError{Field: "weights", Reason: fmt.Sprintf("weight %g of category %d", w, i)}
		}
		positive = positive || w > 0
	}
	if !positive {
		return &InvalidError{Field: "weights", Reason: "none is positive"}
	}
	return nil
}
