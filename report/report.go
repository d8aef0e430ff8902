package report

import (
	"time"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/stats"
)

// alpha is the error probability of every interval: they are 95 % intervals.
const alpha = 0.05

// Report is what an experiment's current run has shown at one moment.
type Report struct {
	Experiment  string           `json:"experiment"`
	State       experiment.State `json:"state"`
	Version     int64            `json:"version"`
	Run         int              `json:"run"`
	StartedAt   time.Time        `json:"started_at"` // the run
	GeneratedAt time.Time        `json:"generated_at"`
	Alpha       float64          `json:"alpha"` // error probability of the intervals
	Treatments  []Treatment      `json:"treatments"`
	SRM         SRM              `json:"srm"`
	Metrics     []Metric         `json:"metrics"`
}

// Treatment counts the units of a treatment.
type Treatment struct {
	Treatment string `json:"treatment"`
	Control   bool   `json:"control"`
	Weight    int    `json:"weight"`
	Assigned  int64  `json:"assigned"`
	Exposed   int64  `json:"exposed"` // the units of all metrics
}

// SRM tests the numbers of assigned units against the weights that were in force
// when each was assigned. On a mismatch nothing else in the report can be trusted.
type SRM struct {
	stats.ChiSquare

	Mismatch bool `json:"mismatch"`
}

// Metric compares the treatments by what their units did.
type Metric struct {
	Metric   string                `json:"metric"`
	Kind     experiment.MetricKind `json:"kind"`
	Event    string                `json:"event"`
	Currency string                `json:"currency,omitempty"` // of sales; values are in its minor units
	Problem  string                `json:"problem,omitempty"`  // why there are no results
	Results  []Result              `json:"results"`
}

// Result is a metric of one treatment.
type Result struct {
	Treatment string `json:"treatment"`
	Units     int64  `json:"units"`
	Converted int64  `json:"converted"` // units with at least one such event
	// Value is the share of units that converted, or else the mean per unit.
	Value      stats.Number `json:"value"`
	Variance   stats.Number `json:"variance"`
	Comparison *Comparison  `json:"comparison,omitempty"` // with the control; absent for itself
}

// Test names how a comparison was made.
type Test string

// Tests.
const (
	TestPooledZ Test = "pooled_z" // of two proportions
	TestWelchT  Test = "welch_t"  // of two means
)

// Comparison is the effect of a treatment: its value minus that of the control,
// and relative to it.
type Comparison struct {
	Test       Test         `json:"test"`
	Difference stats.Effect `json:"difference"`
	Lift       stats.Effect `json:"lift"`
	Statistic  stats.Number `json:"statistic"`
	DF         stats.Number `json:"df"` // of a t test
	P          stats.Number `json:"p"`
}

// defaultMetrics are those of an experiment that names none.
func defaultMetrics() []experiment.Metric {
	return []experiment.Metric{
		{Key: "conversion", Kind: experiment.MetricConversion, Event: experiment.EventPurchase},
		{Key: "sales_per_unit", Kind: experiment.MetricSales, Event: experiment.EventPurchase},
	}
}
