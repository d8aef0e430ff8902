package experiment

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
)

// Value is what a treatment sets a parameter to: a string, a bool, an int64 or a
// float64. In JSON an integer stays an integer: 4 and 4.0 are different values
// and both survive a round trip. The zero Value holds nothing and is not valid.
type Value struct{ v any }

// StringValue returns a Value that holds s.
func StringValue(s string) Value { return Value{s} }

// BoolValue returns a Value that holds b.
func BoolValue(b bool) Value { return Value{b} }

// IntValue returns a Value that holds i.
func IntValue(i int64) Value { return Value{i} }

// FloatValue returns a Value that holds f.
func FloatValue(f float64) Value { return Value{f} }

// Any returns the string, bool, int64 or float64 inside, and nil for the zero
// Value.
func (v Value) Any() any { return v.v }

// Equal reports whether both hold the same value of the same type.
func (v Value) Equal(o Value) bool { return v == o }

// MarshalJSON writes the value; a float keeps a fraction or an exponent, so that
// it is read back as a float.
func (v Value) MarshalJSON() ([]byte, error) {
	f, isFloat := v.v.(float64)
	if !isFloat {
		return json.Marshal(v.v)
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	if !strings.ContainsAny(string(text), ".eE") {
		text = append(text, '.', '0')
	}
	return text, nil
}

// UnmarshalJSON reads a string, a bool or a number. A number without fraction
// and exponent is an integer, or a float if it does not fit one: PostgreSQL
// writes the exponent of a stored float out.
func (v *Value) UnmarshalJSON(text []byte) error {
	var raw any
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	switch x := raw.(type) {
	case string, bool:
		v.v = x
		return nil
	case json.Number:
		number, err := parseNumber(x.String())
		if err != nil {
			return err
		}
		*v = number
		return nil
	default:
		return errors.New("a value is a string, a bool or a number")
	}
}

// parseNumber returns an integer where text is one that fits, else a float.
func parseNumber(text string) (Value, error) {
	if !strings.ContainsAny(text, ".eE") {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return IntValue(i), nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return Value{}, errors.New("a number must fit 64 bits")
	}
	return FloatValue(f), nil
}

// check returns what is wrong with the value, or "".
func (v Value) check() string {
	switch x := v.v.(type) {
	case nil:
		return "must not be empty"
	case string:
		return checkText(x, maxValueBytes)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return "must be a finite number"
		}
	}
	return ""
}
