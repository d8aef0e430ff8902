package experiment

import (
	"errors"
	"fmt"
)

// Errors that callers may match with errors.Is.
var (
	ErrNotFound   = errors.New("not found")
	ErrExists     = errors.New("already exists")
	ErrConflict   = errors.New("changed by someone else")
	ErrOverloaded = errors.New("too much work is waiting")
)

// InvalidError reports input that can never be accepted. Field is the JSON path
// of the offending value, such as treatments[0].weight.
type InvalidError struct{ Field, Reason string }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// TransitionError reports a change of state that the life cycle does not have.
type TransitionError struct{ From, To State }

func (e *TransitionError) Error() string {
	return fmt.Sprintf("an experiment cannot go from %s to %s", e.From, e.To)
}

// SlotsError reports slots that another experiment of the layer owns.
type SlotsError struct {
	Owner string // key of the other experiment
	Slots SlotRange
}

func (e *SlotsError) Error() string {
	return fmt.Sprintf("slots [%d, %d) belong to experiment %q", e.Slots.From, e.Slots.To, e.Owner)
}

func invalid(field, format string, args ...any) *InvalidError {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}
