package simulation

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
)

// maxComplaints bounds how many broken promises are described in words.
const maxComplaints = 20

// membership is a unit's place in an experiment.
type membership struct {
	unit       int
	experiment string
}

// draw is the treatment that a unit got.
type draw struct {
	treatment string
	run       int
}

// journal remembers everything that the service acknowledged, and notices answers
// that contradict earlier ones. Units are known by their number.
type journal struct {
	prefix string // of the raw ids: keeps the units of several loads on one cluster apart

	mu         sync.Mutex
	assigned   map[membership]draw
	exposed    map[membership]time.Time
	events     map[experiment.EventID]struct{}
	torn       map[int]struct{} // units that saw two treatments of one experiment
	changed    int              // answers that contradict an earlier one
	complaints []string
	calls      []Call      // every answer, in the order of their arrival
	enrolments []time.Time // when the first assignment of a new unit was acknowledged
}

func newJournal(prefix string) *journal {
	return &journal{
		prefix:   prefix,
		assigned: map[membership]draw{},
		exposed:  map[membership]time.Time{},
		events:   map[experiment.EventID]struct{}{},
		torn:     map[int]struct{}{},
	}
}

// treatments records the answer for a unit, received at now.
func (j *journal) treatments(unit int, got []client.Treatment, isNew bool, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	enrolled := false
	for _, t := range got {
		m := membership{unit, t.Experiment}
		before, known := j.assigned[m]
		if t.Reason != experiment.ReasonAssigned {
			if known {
				j.contradict("%s was %s in %s and is now not assigned: %s", j.unitID(unit), before.treatment, t.Experiment, t.Reason)
			}
			continue
		}
		enrolled = true
		d := draw{t.Treatment, t.Run}
		if known && d != before {
			j.torn[unit] = struct{}{}
			j.contradict("%s was %s in %s and is now %s", j.unitID(unit), before.treatment, t.Experiment, d.treatment)
			continue
		}
		j.assigned[m] = d
	}
	if isNew && enrolled {
		j.enrolments = append(j.enrolments, now)
	}
}

// knows returns which experiments unit has an acknowledged assignment of.
func (j *journal) knows(unit int, experiments []string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var known []string
	for _, e := range experiments {
		if _, ok := j.assigned[membership{unit, e}]; ok {
			known = append(known, e)
		}
	}
	return known
}

// exposures records the answer to a confirmation that was sent when unit was known
// to be assigned to the experiments in known.
func (j *journal) exposures(unit int, known []string, got []client.Exposure) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, x := range got {
		if x.ExposedAt == nil {
			if slices.Contains(known, x.Experiment) {
				j.contradict("%s is assigned to %s but its exposure is answered %s", j.unitID(unit), x.Experiment, x.Result)
			}
			continue
		}
		m := membership{unit, x.Experiment}
		at := x.ExposedAt.Truncate(time.Microsecond)
		if before, ok := j.exposed[m]; ok && !before.Equal(at) {
			j.contradict("%s was exposed to %s at %s and is now since %s", j.unitID(unit), x.Experiment, before, at)
			continue
		}
		j.exposed[m] = at
	}
}

// event records that an event is stored.
func (j *journal) event(id experiment.EventID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events[id] = struct{}{}
}

// contradict counts a broken promise. The caller holds mu.
func (j *journal) contradict(format string, args ...any) {
	j.changed++
	j.complain(format, args...)
}

func (j *journal) complain(format string, args ...any) {
	if len(j.complaints) < maxComplaints {
		j.complaints = append(j.complaints, fmt.Sprintf(format, args...))
	}
}

// longestPause returns the longest time between from and to in which no new unit
// was assigned.
func (j *journal) longestPause(from, to time.Time) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	slices.SortFunc(j.enrolments, time.Time.Compare)
	longest, last := time.Duration(0), from
	for _, at := range j.enrolments {
		if at.Before(from) {
			continue
		}
		if at.After(to) {
			break
		}
		longest, last = max(longest, at.Sub(last)), at
	}
	return max(longest, to.Sub(last))
}

// unitID is the raw id of a unit.
func (j *journal) unitID(unit int) string { return j.prefix + strconv.Itoa(unit) }

// enrolledSince reports whether a new unit was assigned after t.
func (j *journal) enrolledSince(t time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.enrolments, func(at time.Time) bool { return at.After(t) })
}

func (j *journal) acknowledged() Acknowledged {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Acknowledged{Assignments: len(j.assigned), Exposures: len(j.exposed), Events: len(j.events)}
}
