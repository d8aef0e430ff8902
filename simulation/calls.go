package simulation

import (
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
)

// Call is one answer about a place that is written once: the treatment of a unit in
// a run, or the time of its exposure. Calls without an answer are not recorded:
// what they may have written shows in later answers or not at all.
type Call struct {
	Place string // unit, experiment and what of it
	Value string // what was answered; empty for a read that found nothing
	Read  bool   // of the tables after the load: what it does not find is not there
	Began time.Time
	Ended time.Time
}

// answered records the treatments that unit was told.
func (j *journal) answered(unit int, got []client.Treatment, began, ended time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range got {
		if t.Reason == experiment.ReasonAssigned {
			j.calls = append(j.calls, Call{
				Place: j.treatmentOf(membership{unit, t.Experiment}), Value: draw{t.Treatment, t.Run}.String(), Began: began, Ended: ended,
			})
		}
	}
}

// answeredExposures records the times of exposure that unit was told.
func (j *journal) answeredExposures(unit int, got []client.Exposure, began, ended time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, x := range got {
		if x.ExposedAt != nil {
			j.calls = append(j.calls, Call{
				Place: j.exposureOf(membership{unit, x.Experiment}), Value: microseconds(*x.ExposedAt), Began: began, Ended: ended,
			})
		}
	}
}

// read records what the tables have at a place, "" for nothing. The caller holds mu.
func (j *journal) read(place, value string) {
	now := time.Now()
	j.calls = append(j.calls, Call{Place: place, Value: value, Read: true, Began: now, Ended: now})
}

func (j *journal) treatmentOf(m membership) string {
	return fmt.Sprintf("treatment of %s in %s", j.unitID(m.unit), m.experiment)
}

func (j *journal) exposureOf(m membership) string {
	return fmt.Sprintf("exposure of %s to %s", j.unitID(m.unit), m.experiment)
}

func (d draw) String() string { return fmt.Sprintf("%s of run %d", d.treatment, d.run) }

// microseconds shows a time as exactly as PostgreSQL keeps it.
func microseconds(t time.Time) string {
	return t.UTC().Truncate(time.Microsecond).Format("2006-01-02T15:04:05.000000Z")
}
