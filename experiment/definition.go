package experiment

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Bounds of a definition.
const (
	maxTreatments   = 32
	maxValues       = 32
	maxMetrics      = 32
	maxWeight       = 1_000_000
	maxDescription  = 4096
	maxSlotRanges   = 1000
	valueNameLength = 64
)

// SlotRange is the half-open range of slots [From, To).
type SlotRange struct{ From, To int }

// Treatment is one arm of an experiment. No identifies it in assignments; New and
// Revise give it, and it never changes once the experiment has run. A weight of 0
// closes a treatment: it keeps its units and gets no more.
type Treatment struct {
	No      int16
	Key     string
	Control bool
	Weight  int
	Values  map[string]Value
}

// MetricKind is how a metric is computed from the events of a unit.
type MetricKind string

// Kinds of metric.
const (
	MetricConversion MetricKind = "conversion" // whether the unit has such an event
	MetricMean       MetricKind = "mean"       // sum of the values of such events
	MetricSales      MetricKind = "sales"      // sum of items total − discounts of such events
)

// Metric is what a report computes per unit from the events of type Event.
type Metric struct {
	Key   string
	Kind  MetricKind
	Event string
}

// Definition is the part of an experiment that experimenters write. Each accepted
// change of it is a new version; the old ones are kept for ever.
type Definition struct {
	Key         string
	Layer       string // key of the layer
	Description string
	Slots       []SlotRange // sorted, disjoint; none: no new units
	Treatments  []Treatment
	Start, End  *time.Time // the experiment enrols units from Start until before End
	Metrics     []Metric
}

// Validate returns an *InvalidError for the first part that can never be
// accepted, nil if there is none.
func (d Definition) Validate() error {
	if reason := checkKey(d.Key); reason != "" {
		return invalid("key", "%s", reason)
	}
	if reason := checkKey(d.Layer); reason != "" {
		return invalid("layer", "%s", reason)
	}
	if len(d.Description) > maxDescription {
		return invalid("description", "must be at most %d bytes long", maxDescription)
	}
	if d.Start != nil && d.End != nil && !d.End.After(*d.Start) {
		return invalid("end", "must be after start")
	}
	if err := validateSlots(d.Slots); err != nil {
		return err
	}
	if err := validateTreatments(d.Treatments); err != nil {
		return err
	}
	return validateMetrics(d.Metrics)
}

func validateSlots(ranges []SlotRange) error {
	if len(ranges) > maxSlotRanges {
		return invalid("slots", "must be at most %d ranges", maxSlotRanges)
	}
	free := 0
	for i, r := range ranges {
		field := "slots[" + strconv.Itoa(i) + "]"
		switch {
		case r.From < 0 || r.To > SlotCount || r.From >= r.To:
			return invalid(field, "must be a range from < to within 0 and %d", SlotCount)
		case r.From < free:
			return invalid(field, "must come after the range before it and not overlap it")
		}
		free = r.To
	}
	return nil
}

func validateTreatments(ts []Treatment) error {
	if len(ts) == 0 || len(ts) > maxTreatments {
		return invalid("treatments", "must be 1 to %d", maxTreatments)
	}
	sum, controls := 0, 0
	keys := map[string]bool{}
	for i, t := range ts {
		field := "treatments[" + strconv.Itoa(i) + "]"
		if err := t.validate(field); err != nil {
			return err
		}
		if keys[t.Key] {
			return invalid(field+".key", "is used twice")
		}
		keys[t.Key] = true
		sum += t.Weight
		if t.Control {
			controls++
		}
	}
	if sum == 0 {
		return invalid("treatments", "weights must not all be zero")
	}
	if controls != 1 {
		return invalid("treatments", "exactly one must be the control")
	}
	return nil
}

func (t Treatment) validate(field string) error {
	if reason := checkKey(t.Key); reason != "" {
		return invalid(field+".key", "%s", reason)
	}
	if t.Weight < 0 || t.Weight > maxWeight {
		return invalid(field+".weight", "must be between 0 and %d", maxWeight)
	}
	if len(t.Values) > maxValues {
		return invalid(field+".values", "must be at most %d", maxValues)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Values)) {
		if !isValueName(name) {
			return invalid(field+".values", "name %q must be 1 to %d of a-z, A-Z, 0-9, _, - and .", name, valueNameLength)
		}
		if reason := t.Values[name].check(); reason != "" {
			return invalid(field+".values."+name, "%s", reason)
		}
	}
	return nil
}

// isValueName allows more than keys do: values go to programs, which have their
// own customs in naming.
func isValueName(name string) bool {
	if name == "" || len(name) > valueNameLength {
		return false
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func validateMetrics(ms []Metric) error {
	if len(ms) > maxMetrics {
		return invalid("metrics", "must be at most %d", maxMetrics)
	}
	seen := map[string]bool{}
	for i, m := range ms {
		field := fmt.Sprintf("metrics[%d]", i)
		if reason := checkKey(m.Key); reason != "" {
			return invalid(field+".key", "%s", reason)
		}
		if seen[m.Key] {
			return invalid(field+".key", "is used twice")
		}
		seen[m.Key] = true
		if reason := checkKey(m.Event); reason != "" {
			return invalid(field+".event", "%s", reason)
		}
		switch m.Kind {
		case MetricConversion, MetricMean:
		case MetricSales:
			if m.Event != EventPurchase {
				return invalid(field+".event", "must be %s: no other event has sales", EventPurchase)
			}
		default:
			return invalid(field+".kind", "unknown value %q", m.Kind)
		}
	}
	return nil
}
