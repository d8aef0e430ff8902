package failover

import (
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// View is what one node knows of the others at one moment, by its own monotonic
// clock. Durations count from an arbitrary start that is the same within a View.
type View struct {
	Now     time.Duration
	Wall    time.Time     // for the history only; no decision rests on it
	Since   time.Duration // when this node began to observe
	Reports map[pgcluster.NodeID]Observation
	// PhaseSince is when this node first saw the operation in its present phase.
	PhaseSince time.Duration
	// Streamed is when the primary last reported that it streams to a node.
	Streamed map[pgcluster.NodeID]time.Duration
}

// Observation is a report and when it arrived.
type Observation struct {
	Report pgcluster.Report
	At     time.Duration
}

// Policy are the bounds that decisions use.
type Policy struct {
	Silence     time.Duration // without a report for so long, a node is silent
	Heard       time.Duration // a standby that heard from the primary within this vouches for it
	Hung        time.Duration // a PostgreSQL that has not answered its agent for so long hangs
	StandbyLost time.Duration // without streaming for so long, a standby leaves the sync set
	RecruitWait time.Duration // how long standbys are waited for before the old primary is restarted instead
	PromoteWait time.Duration // a promotion that takes longer has failed, and so has a barrier that no standby reaches
	StopWait    time.Duration // a switchover that takes longer to stop or catch up has failed
	MaxGap      pgcluster.LSN // a standby further behind is not added to the sync set
}

// DefaultPolicy suits hosts in one region.
func DefaultPolicy() Policy {
	return Policy{
		Silence:     1500 * time.Millisecond,
		Heard:       1500 * time.Millisecond, // an idle primary answers a ping every second
		Hung:        5 * time.Second,
		StandbyLost: 2 * time.Second,
		RecruitWait: time.Second,
		PromoteWait: 15 * time.Second,
		StopWait:    10 * time.Second,
		MaxGap:      16 << 20,
	}
}

// quorum returns k for n data nodes: half of them, rounded down, so that a commit
// is on a majority of the nodes.
func quorum(n int) int { return n / 2 }

// report returns the last report of id if id is not silent.
func (v View) report(id pgcluster.NodeID, p Policy) (pgcluster.Report, bool) {
	o, seen := v.Reports[id]
	if !seen || v.Now-o.At >= p.Silence {
		return pgcluster.Report{}, false
	}
	return o.Report, true
}

// silentFor returns how long nothing was heard of id.
func (v View) silentFor(id pgcluster.NodeID) time.Duration {
	o, seen := v.Reports[id]
	if !seen {
		return v.Now - v.Since
	}
	return v.Now - max(o.At, v.Since)
}

// standby returns the report of id if it is a standby that answers queries.
func (v View) standby(id pgcluster.NodeID, p Policy) (pgcluster.Report, bool) {
	r, ok := v.report(id, p)
	return r, ok && r.Running() && r.Role == pgcluster.RoleStandby
}
