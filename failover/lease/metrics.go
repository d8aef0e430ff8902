package lease

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/xpd-platform/xpd/pgcluster"
)

type metrics struct {
	renewals *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, left func() float64) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "xpd_lease_left_seconds",
		Help: "What is left of this node's lease; 0 if it has none.",
	}, left)
	m := &metrics{renewals: f.NewCounterVec(prometheus.CounterOpts{
		Name: "xpd_lease_renewals_total",
		Help: "Attempts to renew this node's lease, by who granted it (none if nobody did).",
	}, []string{"source", "outcome"})}
	for _, s := range []pgcluster.GrantSource{pgcluster.GrantLeader, pgcluster.GrantPrimary, pgcluster.GrantQuorum} {
		m.renewals.WithLabelValues(string(s), "renewed")
	}
	m.renewals.WithLabelValues("none", "failed")
	return m
}

func (m *metrics) renewed(s pgcluster.GrantSource) {
	switch s {
	case pgcluster.GrantLeader, pgcluster.GrantPrimary, pgcluster.GrantQuorum:
		m.renewals.WithLabelValues(string(s), "renewed").Inc()
	}
}

func (m *metrics) failed() { m.renewals.WithLabelValues("none", "failed").Inc() }
