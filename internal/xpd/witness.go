package xpd

import (
	"context"
	"errors"
	"sync"
	"time"

	clusterapi "github.com/xpd-platform/xpd/failover/httpapi"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// nodeAgent is what the daemon asks of whoever looks after the local PostgreSQL.
type nodeAgent interface {
	clusterapi.Agent

	Run(ctx context.Context) error
	Report() pgcluster.Report
	Configure(c pgcluster.Config)
	RunningSettings(ctx context.Context) ([]pgcluster.RunningSetting, error)
}

var (
	_ nodeAgent = (*agent.Agent)(nil)
	_ nodeAgent = (*witness)(nil)
)

// errWitness is what a witness answers to every order.
var errWitness = errors.New("this node is a witness and has no PostgreSQL")

// witness stands in for an agent on a node without PostgreSQL.
type witness struct {
	mu      sync.Mutex
	report  pgcluster.Report
	changed chan struct{} // closed and replaced with every change of report
}

func newWitness(node pgcluster.NodeID) *witness {
	return &witness{
		report:  pgcluster.Report{Node: node, Seq: 1, Process: pgcluster.ProcessStopped, Role: pgcluster.RoleNone},
		changed: make(chan struct{}),
	}
}

// Run implements nodeAgent: there is nothing to run.
func (w *witness) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Submit implements nodeAgent.
func (w *witness) Submit(context.Context, pgcluster.Order) error { return errWitness }

// RunningSettings implements nodeAgent.
func (w *witness) RunningSettings(context.Context) ([]pgcluster.RunningSetting, error) {
	return nil, errWitness
}

// Report implements nodeAgent.
func (w *witness) Report() pgcluster.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.report
	r.Wall = time.Now()
	return r
}

// Changed implements nodeAgent.
func (w *witness) Changed(ctx context.Context, after uint64) pgcluster.Report {
	for {
		w.mu.Lock()
		r, changed := w.report, w.changed
		w.mu.Unlock()
		r.Wall = time.Now()
		if r.Seq > after {
			return r
		}
		select {
		case <-ctx.Done():
			return r
		case <-changed:
		}
	}
}

// Configure implements nodeAgent: that the version is known is all there is to do.
func (w *witness) Configure(c pgcluster.Config) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.Version <= w.report.Config {
		return
	}
	w.report.Config = c.Version
	w.report.Seq++
	close(w.changed)
	w.changed = make(chan struct{})
}
