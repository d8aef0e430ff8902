package stats

import (
	"math"
	"testing"
)

// The wanted values were computed with 40 to 60 digits.

func TestStudentTwoSided(t *testing.T) {
	t.Parallel()
	tests := []struct{ df, t, want float64 }{
		{1, 0.001, 0.99936338043983888},
		{2.5, 8, 0.0076566441310434466},
		{30, 14.4, 5.162556446073671e-15},
		{81.4, 30, 9.0762194785128846e-46},
		{500, 1.96, 0.050550789819765945},
		{1999.5, 8, 2.0867007143912698e-15}, // either side of manyDF
		{2000.5, 8, 2.0861725246898047e-15},
		{5000, 14.4, 4.2787279515095625e-46},
		{1e6, 4, 6.3347034010048105e-5},
		{1e9, 14.4, 5.1744080082128324e-47},
		{1e13, 0.3, 0.76417715562210097},
		{3, 0, 1},
		{3000, 0, 1},
		{1e5, math.MaxFloat64, 0},
		{50, math.MaxFloat64, 0},
	}
	for _, tt := range tests {
		if got := studentTwoSided(-tt.t, tt.df); !(math.Abs(got-tt.want) <= 1e-11*tt.want) {
			t.Errorf("studentTwoSided(%g, %g) = %.17g, want %.17g", -tt.t, tt.df, got, tt.want)
		}
	}
}

func TestStudentCritical(t *testing.T) {
	t.Parallel()
	tests := []struct{ df, alpha, want float64 }{
		{1, 1e-9, 636619772.3675813},
		{1.5, 0.05, 6.0166631044279317},
		{10, 0.9, 0.12889018929327376},
		{300, 1e-12, 7.4502222166323619},
		{1999, 1e-9, 6.1388135170828655}, // either side of manyDF
		{2001, 1e-9, 6.1387840074213288},
		{5000, 0.05, 1.9604385517065079},
		{1e5, 1e-9, 6.1099956092534665},
		{1e9, 0.05, 1.9599639869123254},
	}
	for _, tt := range tests {
		if got := studentCritical(tt.alpha, tt.df); !(math.Abs(got-tt.want) <= 1e-11*tt.want) {
			t.Errorf("studentCritical(%g, %g) = %.17g, want %.17g", tt.alpha, tt.df, got, tt.want)
		}
	}
}

// TestStudentCritical_inverse goes through degrees of freedom and alphas: the tail
// beyond the critical value is alpha.
func TestStudentCritical_inverse(t *testing.T) {
	t.Parallel()
	for df := 1.0; df < 1e12; df *= 1.37 {
		for _, alpha := range []float64{0.99999, 0.999, 0.5, 0.05, 0.001, 1e-6, 1e-9, 1e-12} {
			critical := studentCritical(alpha, df)
			if got := studentTwoSided(critical, df); !(math.Abs(got-alpha) <= 1e-9*alpha) {
				t.Errorf("alpha %g, df %g: critical value %g has tail %g", alpha, df, critical, got)
			}
		}
	}
}

func TestNormalTails(t *testing.T) {
	t.Parallel()
	for _, alpha := range []float64{0.999, 0.5, 0.05, 1e-6, 1e-40, 1e-300} {
		if got := normalTwoSided(normalCritical(alpha)); !(math.Abs(got-alpha) <= 1e-11*alpha) {
			t.Errorf("tail of the critical value for %g is %g", alpha, got)
		}
	}
}
