package stats

import (
	"encoding/json"
	"fmt"
	"math"
)

// Number is a finite result, or none where the data do not determine one. The
// zero value is undefined. In JSON it is a number or null.
type Number struct {
	Value   float64 // 0 if not Defined
	Defined bool
}

// number makes v a Number: undefined if it is not finite.
func number(v float64) Number {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Number{}
	}
	return Number{Value: v, Defined: true}
}

// MarshalJSON implements [json.Marshaler].
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.Defined {
		return []byte("null"), nil
	}
	return json.Marshal(n.Value)
}

// UnmarshalJSON implements [json.Unmarshaler], for readers of a report.
func (n *Number) UnmarshalJSON(data []byte) error {
	var v *float64
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*n = Number{}
	if v != nil {
		*n = number(*v)
	}
	return nil
}

// Interval is a confidence interval, both ends included, or none where the data
// do not determine one. The zero value is undefined. In JSON it is
// {"low": …, "high": …} or null.
type Interval struct {
	Low, High float64 // 0 if not Defined
	Defined   bool
}

// interval is undefined if one of its ends is.
func interval(low, high float64) Interval {
	if l, h := number(low), number(high); !l.Defined || !h.Defined {
		return Interval{}
	}
	return Interval{Low: low, High: high, Defined: true}
}

// bounds is the JSON form of a defined Interval.
type bounds struct {
	Low  *float64 `json:"low"`
	High *float64 `json:"high"`
}

// MarshalJSON implements [json.Marshaler].
func (i Interval) MarshalJSON() ([]byte, error) {
	if !i.Defined {
		return []byte("null"), nil
	}
	return json.Marshal(bounds{Low: &i.Low, High: &i.High})
}

// UnmarshalJSON implements [json.Unmarshaler], for readers of a report.
func (i *Interval) UnmarshalJSON(data []byte) error {
	var b *bounds
	if err := json.Unmarshal(data, &b); err != nil {
		return err
	}
	*i = Interval{}
	if b == nil {
		return nil
	}
	if b.Low == nil || b.High == nil {
		return fmt.Errorf("interval %s lacks an end", data)
	}
	*i = interval(*b.Low, *b.High)
	return nil
}

// Effect is an estimate with its confidence interval. The estimate can be defined
// where the interval is not.
type Effect struct {
	Estimate Number   `json:"estimate"`
	Interval Interval `json:"interval"`
}
