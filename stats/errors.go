package stats

import "fmt"

// InvalidError reports input that no data can produce, such as more successes
// than units. Match it with errors.AsType[*InvalidError].
type InvalidError struct{ Field, Reason string }

func (e *InvalidError) Error() string {
	return fmt.Sprintf("stats: %s: %s", e.Field, e.Reason)
}

func validateAlpha(alpha float64) error {
	if alpha > 0 && alpha < 1 { // false for NaN
		return nil
	}
	return &InvalidError{Field: "alpha", Reason: fmt.Sprintf("%g is not between 0 and 1", alpha)}
}
