package raftstore

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// register exports gauges that are read from Raft when they are collected.
func register(reg prometheus.Registerer, r *raft.Raft) {
	f := promauto.With(reg)
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	gauge("xpd_raft_leader", "1 while this node leads the Raft group.", func() float64 {
		if r.State() == raft.Leader {
			return 1
		}
		return 0
	})
	gauge("xpd_raft_term", "Raft term that this node is in.", func() float64 {
		return float64(r.CurrentTerm())
	})
	gauge("xpd_raft_applied_index", "Last Raft log index that was applied here.", func() float64 {
		return float64(r.AppliedIndex())
	})
	gauge("xpd_raft_last_contact_seconds", "Time since the Raft leader was last heard; -1 if never.", func() float64 {
		last := r.LastContact()
		switch {
		case r.State() == raft.Leader:
			return 0
		case last.IsZero():
			return -1
		}
		return time.Since(last).Seconds()
	})
}
