package simulation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/stats"
)

// Report is what came of a load and its disturbances.
type Report struct {
	Seed         uint64        `json:"seed"`
	Rate         float64       `json:"rate"`
	Seconds      float64       `json:"seconds"`
	Disturbances []Disturbance `json:"disturbances"`
	Requests     Requests      `json:"requests"`
	Acknowledged Acknowledged  `json:"acknowledged"`
	// Changed counts answers that contradict an earlier one, TornUnits the units
	// that were told two treatments of one experiment.
	Changed    int             `json:"changed_answers"`
	TornUnits  int             `json:"torn_units"`
	Audits     []NodeAudit     `json:"nodes"`
	Latency    []StreamLatency `json:"latency"`
	AboveFloor Millis          `json:"p999_above_floor_ms"` // of treatments outside the disturbances
	Allocation []Allocation    `json:"allocation"`
	Complaints []string        `json:"complaints,omitempty"` // the first of what is wrong, in words
	Calls      []Call          `json:"-"`                    // every answer about what is written once
	MayFail    bool            `json:"-"`                    // see Options
	History    error           `json:"-"`                    // what somebody found who judged the calls
}

// Acknowledged counts what the service said is stored.
type Acknowledged struct {
	Assignments int `json:"assignments"`
	Exposures   int `json:"exposures"`
	Events      int `json:"events"`
}

// StreamLatency is the latency of one kind of request, outside the disturbances
// and during them.
type StreamLatency struct {
	Stream  string  `json:"stream"`
	Outside Latency `json:"outside"`
	During  Latency `json:"during"`
}

// Allocation is how the units of an experiment are spread over its treatments.
type Allocation struct {
	Experiment string           `json:"experiment"`
	Treatments []TreatmentShare `json:"treatments"`
	ChiSquare  stats.ChiSquare  `json:"chi_square"`
}

// TreatmentShare is one treatment of an Allocation.
type TreatmentShare struct {
	Key    string `json:"key"`
	Weight int    `json:"weight"`
	Units  int64  `json:"units"`
}

// Err says what promises were broken, or nil.
func (r Report) Err() error {
	lost := slices.ContainsFunc(r.Audits, func(a NodeAudit) bool { return !a.clean() })
	switch {
	case lost:
		return fmt.Errorf("acknowledged data is missing or differs (seed %d)", r.Seed)
	case r.Changed > 0 || r.TornUnits > 0:
		return fmt.Errorf("%d answers contradict earlier ones (seed %d)", r.Changed, r.Seed)
	case r.History != nil:
		return fmt.Errorf("the history of calls is wrong (seed %d): %w", r.Seed, r.History)
	case r.Requests.Failed > 0 && !r.MayFail:
		return fmt.Errorf("%d of %d requests failed (seed %d)", r.Requests.Failed, r.Requests.Made, r.Seed)
	case len(r.Audits) < 2:
		return fmt.Errorf("no synchronous standby was there to be checked (seed %d)", r.Seed)
	}
	return nil
}

// report checks the cluster and sums the session up. The load has ended.
func (s *Session) report(ctx context.Context) (Report, error) {
	ended := time.Now()
	audits, err := audit(ctx, s.Cluster, s.journal)
	if err != nil {
		return Report{}, err
	}
	allocation, err := s.allocation(ctx, audits[0].Node)
	if err != nil {
		return Report{}, err
	}
	j := s.journal
	r := Report{
		Seed: s.o.Seed, Rate: s.o.Rate, Seconds: ended.Sub(s.start).Seconds(),
		Disturbances: s.disturbances, Requests: s.load.counts(), Audits: audits, Allocation: allocation,
		Acknowledged: j.acknowledged(),
		Changed:      j.changed, TornUnits: len(j.torn),
		Complaints: slices.Concat(s.load.failures, j.complaints),
		Calls:      j.calls, MayFail: s.o.MayFail,
	}
	for _, stream := range []struct {
		name  string
		from  *load
		kinds []kind
	}{
		{"treatments", s.load, []kind{kindNew, kindReturning}},
		{"treatments, new units", s.load, []kind{kindNew}},
		{"treatments, returning units", s.load, []kind{kindReturning}},
		{"exposures", s.load, []kind{kindExposure}},
		{"purchases", s.load, []kind{kindPurchase}},
		{floorStream, s.floor, []kind{kindPing}},
	} {
		l := StreamLatency{Stream: stream.name}
		l.Outside, l.During = stream.from.latency.split(s.measured, s.windows(), stream.kinds...)
		r.Latency = append(r.Latency, l)
	}
	r.AboveFloor = r.Latency[0].Outside.P999 - r.Latency[len(r.Latency)-1].Outside.P999
	return r, nil
}

const floorStream = "floor (/healthz)"

func (s *Session) windows() []window {
	out := make([]window, len(s.disturbances))
	for i, d := range s.disturbances {
		out[i] = d.window
	}
	return out
}

const allocationSQL = `
SELECT treatment.key, count(*)
FROM assignment
JOIN run ON run.id = assignment.run_id
JOIN experiment ON experiment.id = run.experiment_id
JOIN treatment ON treatment.experiment_id = experiment.id AND treatment.no = assignment.treatment
JOIN unit ON unit.key = assignment.unit_key
WHERE experiment.key = $1 AND starts_with(unit.id, $2)
GROUP BY treatment.key`

// allocation counts on the primary how the units of this load were allocated.
func (s *Session) allocation(ctx context.Context, primary pgcluster.NodeID) ([]Allocation, error) {
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var out []Allocation
	for _, d := range shop() {
		type row struct {
			Treatment string
			Units     int64
		}
		rows, err := query[row](ctx, conn, allocationSQL, d.Key, s.journal.prefix)
		if err != nil {
			return nil, fmt.Errorf("count units of %s: %w", d.Key, err)
		}
		units := make(map[string]int64, len(rows))
		for _, r := range rows {
			units[r.Treatment] = r.Units
		}
		a := Allocation{Experiment: d.Key}
		var observed []int64
		var weights []float64
		for _, t := range d.Treatments {
			a.Treatments = append(a.Treatments, TreatmentShare{Key: t.Key, Weight: t.Weight, Units: units[t.Key]})
			observed = append(observed, units[t.Key])
			weights = append(weights, float64(t.Weight))
		}
		if a.ChiSquare, err = stats.ChiSquareGOF(observed, weights); err != nil {
			return nil, fmt.Errorf("allocation of %s: %w", d.Key, err)
		}
		out = append(out, a)
	}
	return out, nil
}
