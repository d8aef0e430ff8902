package experiment

import "time"

// ExposureRequest confirms that a unit really saw its treatment of an experiment.
type ExposureRequest struct {
	Experiment string
	At         time.Time
}

// ExposureOutcome is what became of a confirmation.
type ExposureOutcome string

// Outcomes of confirming an exposure.
const (
	ExposureConfirmed         ExposureOutcome = "confirmed"
	ExposureAlready           ExposureOutcome = "already"
	ExposureNotAssigned       ExposureOutcome = "not_assigned"
	ExposureUnknownExperiment ExposureOutcome = "unknown_experiment"
)

// ExposureResult tells the outcome for one request, durable when it is told. At
// is when the unit was first exposed, zero if it never was.
type ExposureResult struct {
	Experiment string
	Outcome    ExposureOutcome
	At         time.Time
}

// History is what a unit got and did.
type History struct {
	Unit        Unit
	Assignments []PastAssignment // newest first
	Events      []Event          // newest first, bounded
	MoreEvents  bool             // older events exist beyond the bound
}

// PastAssignment is one assignment of a unit, of whatever state its experiment is in.
type PastAssignment struct {
	Experiment string
	Treatment  string
	Run        int
	Version    int64 // of the definition that drew it
	AssignedAt time.Time
	ExposedAt  *time.Time // nil until confirmed
}
