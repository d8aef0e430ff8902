package experiment

import "time"

// Assignment is a stored fact: a unit belongs to a treatment of a run. It is
// written once.
type Assignment struct {
	RunID     int32
	Treatment int16
	Version   int64 // of the definition that drew it
	At        time.Time
}

// Reason says why a unit has, or does not have, a treatment.
type Reason string

// Reasons. Only ReasonAssigned comes with a treatment.
const (
	ReasonAssigned          Reason = "assigned"
	ReasonUnknownExperiment Reason = "unknown_experiment"
	ReasonWrongUnitType     Reason = "wrong_unit_type"
	ReasonDraft             Reason = "draft"
	ReasonPaused            Reason = "paused"
	ReasonStopped           Reason = "stopped"
	ReasonArchived          Reason = "archived"
	ReasonNotStarted        Reason = "not_started"
	ReasonEnded             Reason = "ended"
	ReasonLayerClaimed      Reason = "layer_claimed" // the unit is in another experiment of the layer
	ReasonTraffic           Reason = "traffic"       // the experiment does not own the unit's slot
)

// Decision is the answer for one unit and experiment. Treatment, Values, Run and
// RunID are set only if Reason is ReasonAssigned. Values belong to the snapshot
// and must not be changed.
type Decision struct {
	Experiment string
	Treatment  string
	Values     map[string]Value
	Reason     Reason
	Run        int
	RunID      int32
	Version    int64 // of the definition that gave Values; 0 if the experiment is unknown
}
