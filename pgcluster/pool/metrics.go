package pool

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	connections *prometheus.GaugeVec // by node: the members
	swaps       prometheus.Counter
	retries     *prometheus.CounterVec // by reason: see the constants of that type
}

func newMetrics(reg prometheus.Registerer, waiting func() float64) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "xpd_pool_waiting_callers",
		Help: "Callers that wait for an open primary, for a connection to it or for another try.",
	}, waiting)
	return &metrics{
		connections: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "xpd_pool_connections",
			Help: "Connections to a node's PostgreSQL, idle or in use.",
		}, []string{"node"}),
		swaps: f.NewCounter(prometheus.CounterOpts{
			Name: "xpd_pool_swaps_total",
			Help: "Times that the pools were pointed to an open primary.",
		}),
		retries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "xpd_pool_retries_total",
			Help: "Tries that did not give a certain answer and were repeated.",
		}, []string{"reason"}),
	}
}
