package experiment

// State is where an experiment is in its life.
type State string

// States. An experiment begins as a draft; an archived one stays so for ever.
const (
	StateDraft    State = "draft"
	StateRunning  State = "running"
	StatePaused   State = "paused"
	StateStopped  State = "stopped"
	StateArchived State = "archived"
)

// ParseState is the only way in which a string from outside becomes a State.
func ParseState(s string) (State, error) {
	switch st := State(s); st {
	case StateDraft, StateRunning, StatePaused, StateStopped, StateArchived:
		return st, nil
	default:
		return "", invalid("state", "unknown value %q", s)
	}
}

// Live reports whether units that are assigned keep their treatment and so keep
// their claim on the layer.
func (s State) Live() bool { return s == StateRunning || s == StatePaused }

// OwnsSlots reports whether the slots of an experiment are closed to others. A
// draft reserves its slots, so that starting it cannot fail.
func (s State) OwnsSlots() bool { return s == StateDraft || s.Live() }

func (s State) canMoveTo(to State) bool {
	switch s {
	case StateDraft:
		return to == StateRunning || to == StateArchived
	case StateRunning:
		return to == StatePaused || to == StateStopped
	case StatePaused:
		return to == StateRunning || to == StateStopped
	case StateStopped:
		return to == StateArchived
	case StateArchived:
	}
	return false
}
