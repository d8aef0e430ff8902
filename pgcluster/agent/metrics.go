package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/xpd-platform/xpd/pgcluster"
)

type metrics struct {
	up       prometheus.Gauge
	primary  prometheus.Gauge
	lag      prometheus.Gauge
	free     *prometheus.GaugeVec   // use: data, wal, state
	size     *prometheus.GaugeVec   // likewise
	settings *prometheus.GaugeVec   // state: refused, pending_restart, overridden, weak
	exits    *prometheus.CounterVec // asked: yes, no
	attempts *prometheus.CounterVec // by kind and result: both are small, closed sets
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		up: f.NewGauge(prometheus.GaugeOpts{
			Name: "xpd_postgres_up",
			Help: "1 while the node's PostgreSQL answers queries.",
		}),
		primary: f.NewGauge(prometheus.GaugeOpts{
			Name: "xpd_postgres_primary",
			Help: "1 while the node's PostgreSQL is a primary.",
		}),
		lag: f.NewGauge(prometheus.GaugeOpts{
			Name: "xpd_postgres_replay_lag_seconds",
			Help: "Lag of the standby that is furthest behind in replay; on a primary.",
		}),
		free: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "xpd_postgres_disk_free_bytes",
			Help: "Room on the filesystems that the node depends on.",
		}, []string{"use"}),
		size: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "xpd_postgres_disk_size_bytes",
			Help: "Size of the filesystems that the node depends on.",
		}, []string{"use"}),
		settings: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "xpd_postgres_settings",
			Help: "Settings that are not what somebody wanted them to be.",
		}, []string{"state"}),
		exits: f.NewCounterVec(prometheus.CounterOpts{
			Name: "xpd_postgres_exits_total",
			Help: "Ends of the PostgreSQL server process.",
		}, []string{"asked"}),
		attempts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "xpd_postgres_order_attempts_total",
			Help: "Attempts to carry out an order.",
		}, []string{"kind", "result"}),
	}
}

func (m *metrics) observe(r pgcluster.Report) {
	m.up.Set(gauge(r.Running()))
	m.primary.Set(gauge(r.Running() && r.Role == pgcluster.RolePrimary))
	var lag time.Duration
	for _, s := range r.Senders {
		lag = max(lag, s.ReplayLag)
	}
	m.lag.Set(lag.Seconds())
	for _, d := range r.Disks {
		m.free.WithLabelValues(d.Use).Set(float64(d.Free))
		m.size.WithLabelValues(d.Use).Set(float64(d.Total))
	}
	for state, list := range map[string][]string{
		"refused": r.Refused, "pending_restart": r.Pending, "overridden": r.Overrides, "weak": r.Weak,
	} {
		m.settings.WithLabelValues(state).Set(float64(len(list)))
	}
}

func (m *metrics) exit(asked bool) {
	label := "no"
	if asked {
		label = "yes"
	}
	m.exits.WithLabelValues(label).Inc()
}

func (m *metrics) attempt(kind pgcluster.OrderKind, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.attempts.WithLabelValues(string(kind), result).Inc()
}

func gauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
