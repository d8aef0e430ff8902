package history

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/xpd-platform/xpd/simulation"
)

// checkBound is how long a check may take before it counts as failed.
const checkBound = 30 * time.Second

// maxBroken bounds how many places are described.
const maxBroken = 5

// WriteOnce returns an error unless the calls about every place are linearizable as
// a register that keeps the first value written to it.
func WriteOnce(calls []simulation.Call) error {
	places := map[string][]simulation.Call{}
	for _, c := range calls {
		places[c.Place] = append(places[c.Place], c)
	}
	var errs []error
	for _, place := range slices.Sorted(maps.Keys(places)) {
		if err := checkPlace(place, places[place]); err != nil {
			errs = append(errs, err)
		}
		if len(errs) == maxBroken {
			break
		}
	}
	return errors.Join(errs...)
}

func checkPlace(place string, calls []simulation.Call) error {
	slices.SortFunc(calls, func(a, b simulation.Call) int { return a.Began.Compare(b.Began) })
	start := calls[0].Began
	ops := make([]porcupine.Operation, len(calls))
	for i, c := range calls {
		ops[i] = porcupine.Operation{
			ClientId: i, Input: c.Read, Output: c.Value,
			Call: int64(c.Began.Sub(start)), Return: int64(c.Ended.Sub(start)),
		}
	}
	switch porcupine.CheckOperationsTimeout(register(), ops, checkBound) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%s: %d calls could not be checked within %s", place, len(calls), checkBound)
	case porcupine.Illegal:
	}
	var text strings.Builder
	text.WriteString(place + " was not written once:")
	for _, c := range calls {
		kind := "answered"
		if c.Read {
			kind = "read from a table"
		}
		fmt.Fprintf(&text, "\n  %v to %v %s %q", c.Began.Sub(start), c.Ended.Sub(start), kind, c.Value)
	}
	return errors.New(text.String())
}

// register holds a string that is "" until the first answer writes it. Every other
// answer or read must repeat it.
func register() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			if state == "" && input == false {
				return output != "", output
			}
			return output == state, state
		},
	}
}
