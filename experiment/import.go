package experiment

import "time"

// ImportedAssignment is an assignment that was made elsewhere.
type ImportedAssignment struct {
	Unit      Unit
	Treatment string    // key of a treatment
	At        time.Time // zero: when the run started
}

// Validate returns an *InvalidError for the first part that can never be accepted.
// It expects a Unit that ParseUnit made.
func (a ImportedAssignment) Validate(now time.Time) error {
	if reason := checkKey(a.Treatment); reason != "" {
		return invalid("treatment", "%s", reason)
	}
	switch {
	case a.At.IsZero():
	case a.At.After(now.Add(maxAhead)):
		return invalid("assigned_at", "is more than %s in the future", maxAhead)
	case a.At.Year() < 1970:
		return invalid("assigned_at", "is before 1970")
	}
	return nil
}

// AssignmentImport is a batch of assignments for the current run of Experiment.
type AssignmentImport struct {
	Experiment string
	UnitType   string
	Exposed    bool // the units also saw their treatment, when they were assigned
	Rows       []ImportedAssignment
}

// ImportResult accounts for every row of a batch, once: those that are not
// rejected are stored, and were so before if they are Present.
type ImportResult struct {
	Inserted int
	Present  int
	Rejected []Rejection // by row
}

// Rejection says why a row of a batch was left out.
type Rejection struct {
	Row    int // from 0
	Reason string
}
