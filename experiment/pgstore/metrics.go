package pgstore

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Labels of the group commits; a closed set.
const (
	groupLookup     = "lookup"
	groupAssignment = "assignment"
	groupExposure   = "exposure"
	groupEvent      = "event"
)

type metrics struct {
	groupSize     *prometheus.HistogramVec
	groupWait     *prometheus.HistogramVec
	groupDuration *prometheus.HistogramVec
	overloaded    *prometheus.CounterVec
	cacheHits     prometheus.Counter
	cacheMisses   prometheus.Counter
}

// groupMetrics are the metrics of one group commit.
type groupMetrics struct {
	size, wait, duration prometheus.Observer
	overloaded           prometheus.Counter
}

func newMetrics(s *Store, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "xpd_unit_cache_entries",
		Help: "Units in the cache.",
	}, func() float64 { return float64(s.cache.units.Len()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "xpd_definitions_version",
		Help: "Version of the definitions that this node serves, 0 before the first load.",
	}, func() float64 {
		if snap := s.snapshot.Load(); snap != nil {
			return float64(snap.Version())
		}
		return 0
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "xpd_definitions_age_seconds",
		Help: "Time since the definitions were last known to be current, -1 before the first load.",
	}, s.snapshotAge)
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 16)
	return &metrics{
		groupSize: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "xpd_group_size",
			Help:    "Units or events that one flush carried.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}, []string{"group"}),
		groupWait: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "xpd_group_wait_seconds", Help: "Time that a request waited for its flush to begin.", Buckets: seconds,
		}, []string{"group"}),
		groupDuration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "xpd_group_flush_seconds", Help: "Time from the begin of a flush until it was durable.", Buckets: seconds,
		}, []string{"group"}),
		overloaded: f.NewCounterVec(prometheus.CounterOpts{
			Name: "xpd_group_overloaded_total", Help: "Requests refused because too much was waiting.",
		}, []string{"group"}),
		cacheHits: f.NewCounter(prometheus.CounterOpts{
			Name: "xpd_unit_cache_hits_total", Help: "Units answered from the cache.",
		}),
		cacheMisses: f.NewCounter(prometheus.CounterOpts{
			Name: "xpd_unit_cache_misses_total", Help: "Units whose rows had to be read.",
		}),
	}
}

func (m *metrics) group(name string) groupMetrics {
	return groupMetrics{
		size:       m.groupSize.WithLabelValues(name),
		wait:       m.groupWait.WithLabelValues(name),
		duration:   m.groupDuration.WithLabelValues(name),
		overloaded: m.overloaded.WithLabelValues(name),
	}
}
