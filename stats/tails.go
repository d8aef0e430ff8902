package stats

import (
	"math"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// normalTwoSided is P(|Z| >= |z|). Erfc keeps its digits where 1-CDF is 0.
func normalTwoSided(z float64) float64 { return math.Erfc(math.Abs(z) / math.Sqrt2) }

// normalCritical is the z with normalTwoSided(z) = alpha.
func normalCritical(alpha float64) float64 { return -mathext.NormalQuantile(alpha / 2) }

// manyDF is where Student's t is taken from its expansion around the normal
// distribution. gonum's incomplete beta function subtracts logarithms of gamma
// functions that grow with the degrees of freedom: p-values have 12 digits at
// 2,000, 6 at 1e9 and 2 at 1e13, while the expansion only gets better.
const manyDF = 2000

// vast is a t whose tail is 0 from manyDF on; beyond it the expansion overflows.
const vast = 1e9

// studentTwoSided is P(|T| >= |t|) with df degrees of freedom.
func studentTwoSided(t, df float64) float64 {
	t = math.Abs(t)
	switch {
	case df >= manyDF:
		return normalTwoSided(hill(min(t, vast), df))
	case t < 1:
		// df/(df+t²) would round away a small t.
		return 1 - mathext.RegIncBeta(0.5, df/2, t*t/(df+t*t))
	default:
		return mathext.RegIncBeta(df/2, 0.5, df/(df+t*t))
	}
}

// hill maps t to the z with the same tail (Hill 1970, Algorithm 395,
// Communications of the ACM 13:617).
func hill(t, df float64) float64 {
	a := df - 0.5
	b := 48 * a * a
	w := math.Sqrt(a * math.Log1p(t*(t/df)))
	w2 := w * w
	second := w * (((4*w2+33)*w2+240)*w2 + 855) / (10 * b * (b + 0.8*w2*w2 + 100))
	return w + w*(w2+3)/b - second
}

// studentCritical is the t with studentTwoSided(t, df) = alpha.
func studentCritical(alpha, df float64) float64 {
	if df >= manyDF {
		return fisher(normalCritical(alpha), df)
	}
	// gonum's inverse has 13 digits for everyday alphas and as few as two for tiny
	// ones. The tail is close to a power of t, so that Newton's method on the
	// logarithms restores the rest at once.
	t := -distuv.StudentsT{Sigma: 1, Nu: df}.Quantile(alpha / 2)
	for range 3 {
		p := studentTwoSided(t, df)
		slope := 2 * t * distuv.StudentsT{Sigma: 1, Nu: df}.Prob(t) / p
		t *= math.Exp(math.Log(p/alpha) / slope)
	}
	return t
}

// fisher maps z to the t with the same tail, to fourth order in 1/df (Abramowitz
// and Stegun 1964, formula 26.7.5, after Fisher and Cornish).
func fisher(z, df float64) float64 {
	z2 := z * z
	g1 := z * (z2 + 1) / 4
	g2 := z * ((5*z2+16)*z2 + 3) / 96
	g3 := z * (((3*z2+19)*z2+17)*z2 - 15) / 384
	g4 := z * ((((79*z2+776)*z2+1482)*z2-1920)*z2 - 945) / 92160
	return z + (g1+(g2+(g3+g4/df)/df)/df)/df
}
