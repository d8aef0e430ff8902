package controller

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/xpd-platform/xpd/failover"
)

// metrics has label sets of operation kinds, phases, order kinds and results: all
// small and closed.
type metrics struct {
	leading   prometheus.Gauge
	phases    *prometheus.HistogramVec
	completed *prometheus.CounterVec
	pause     prometheus.Histogram
	orders    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, log Log) *metrics {
	f := promauto.With(reg)
	durations := []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "xpd_failover_epoch",
		Help: "Epoch of the primary that this node knows of.",
	}, func() float64 {
		s, _ := log.State()
		return float64(s.Primary.Epoch)
	})
	return &metrics{
		leading: f.NewGauge(prometheus.GaugeOpts{
			Name: "xpd_failover_leading",
			Help: "1 while this node decides on failovers.",
		}),
		phases: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "xpd_failover_phase_duration_seconds",
			Help:    "Time that operations decided on by this node spent in each phase.",
			Buckets: durations,
		}, []string{"kind", "phase"}),
		completed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "xpd_failover_operations_total",
			Help: "Operations that this node saw to their end, by kind; aborted ones are a kind of their own.",
		}, []string{"kind"}),
		pause: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "xpd_failover_pause_seconds",
			Help:    "Time from the decision to close a primary until one was opened.",
			Buckets: durations,
		}),
		orders: f.NewCounterVec(prometheus.CounterOpts{
			Name: "xpd_failover_orders_total",
			Help: "Orders sent to nodes.",
		}, []string{"kind", "result"}),
	}
}

// record logs and counts what changed from prev to next, which this node decided.
func (c *Controller) record(ctx context.Context, prev, next failover.State) {
	if op := next.Op; op != nil {
		c.recordSteps(ctx, prev.Op, *op)
	}
	for _, e := range newEvents(prev.History, next.History) {
		c.o.Logger.InfoContext(ctx, "cluster changed", "kind", e.Kind, "epoch", e.Epoch,
			"node", e.Node, "from", e.From, "reason", e.Reason, "took", e.Took)
		if len(e.Steps) == 0 {
			continue // a change of the sync set
		}
		c.metrics.completed.WithLabelValues(e.Kind).Inc()
		if prev.Op != nil {
			ended := *prev.Op
			ended.Steps = e.Steps
			c.recordSteps(ctx, prev.Op, ended)
		}
		if d, paused := pauseOf(e); paused {
			c.metrics.pause.Observe(d.Seconds())
		}
	}
}

// recordSteps tells of the steps that op has and prev, its earlier self, had not.
func (c *Controller) recordSteps(ctx context.Context, prev *failover.Operation, op failover.Operation) {
	known := 0
	if prev != nil && prev.ID == op.ID {
		known = min(len(prev.Steps), len(op.Steps))
	}
	for i := known; i < len(op.Steps); i++ {
		step := op.Steps[i]
		c.o.Logger.InfoContext(ctx, "phase entered", "op", op.ID, "kind", op.Kind,
			"epoch", step.Epoch, "phase", step.Phase, "from", op.From, "to", op.To, "reason", op.Reason)
		if i > 0 {
			last := op.Steps[i-1]
			c.metrics.phases.WithLabelValues(string(op.Kind), string(last.Phase)).
				Observe(max(0, step.At.Sub(last.At)).Seconds())
		}
	}
}

// newEvents returns the events of next that follow the last one of prev.
func newEvents(prev, next []failover.Event) []failover.Event {
	if len(prev) == 0 {
		return next
	}
	last := prev[len(prev)-1]
	for i, e := range slices.Backward(next) {
		if reflect.DeepEqual(e, last) {
			return next[i+1:]
		}
	}
	return next
}

// pauseOf returns how long clients were shut out by the operation that e ends:
// from the first phase that closes the primary. A bootstrap shuts nobody out.
func pauseOf(e failover.Event) (time.Duration, bool) {
	if !slices.Contains([]string{string(failover.KindFailover), string(failover.KindSwitchover), string(failover.KindRestart)}, e.Kind) {
		return 0, false
	}
	for _, step := range e.Steps {
		if step.Phase != failover.PhaseCheckpoint && step.Phase != failover.PhaseRestart && step.Phase != "open" {
			return max(0, e.At.Sub(step.At)), true
		}
	}
	return 0, false
}
