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
	// Opened is when this node saw epochs open that a failover made, oldest first; the
	// last thirty of them are enough.
	Opened []time.Duration
	// Moved is when this node last gave the leadership away that MoveLeadership asked
	// for; 0 if it never did.
	Moved time.Duration
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
	Hung        time.Duration // a PostgreSQL that has not answered its agent for so long hangs; so does a disk that takes no WAL
	Refused     time.Duration // a PostgreSQL that let nobody connect for so long hangs, though it may serve who is connected
	CutOff      time.Duration // without streaming for so long from a primary that acknowledges nothing, standbys replace it
	LinkBad     time.Duration // a primary that is silent for so long to nobody but the Raft leader: its link is bad
	Lease       time.Duration // for how long a node may trust what it knows of the primary
	Cooldown    time.Duration // from one failover to the next; it doubles for each in a row
	CooldownMax time.Duration // and grows no longer than this
	StandbyLost time.Duration // without streaming for so long, a standby leaves the sync set
	RecruitWait time.Duration // how long standbys are waited for before others are taken too: the old primary, or who does not run
	PromoteWait time.Duration // a promotion that takes longer has failed, and so has a barrier that no standby reaches
	StopWait    time.Duration // a switchover that takes longer to stop or catch up has failed
	RestartWait time.Duration // a restart of a standby that takes longer has failed
	MaxGap      pgcluster.LSN // a standby further behind is not added to the sync set, and with more to replay it takes no role over

	MaxReplayLag time.Duration // nor does one that replays what is older
}

// DefaultPolicy suits hosts in one region.
func DefaultPolicy() Policy {
	return Policy{
		Silence:     1500 * time.Millisecond,
		Heard:       1500 * time.Millisecond, // an idle primary answers a ping every second
		Hung:        5 * time.Second,
		Refused:     2 * time.Second,
		CutOff:      3 * time.Second,
		LinkBad:     5 * time.Second,
		Lease:       3 * time.Second,
		Cooldown:    time.Second,
		CooldownMax: 8 * time.Second, // with what else a failover takes, requests wait so long
		StandbyLost: 2 * time.Second,
		RecruitWait: time.Second,
		PromoteWait: 15 * time.Second,
		StopWait:    10 * time.Second,
		RestartWait: time.Minute,
		MaxGap:      16 << 20,

		MaxReplayLag: 5 * time.Second,
	}
}

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
