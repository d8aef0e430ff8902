package failovertest

import (
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// askRestart asks for a restart of one node or all. Often there is something that waits
// for it: a setting of which a standby may not have less than its primary gets higher,
// or lower, so that the primary is restarted in place, or one does this and one that.
func (c *cluster) askRestart() {
	c.higher, c.lower, c.changed = c.chance(2), c.chance(2), c.now
	var id pgcluster.NodeID
	if c.chance(3) {
		id = c.any().id
	}
	c.ask("restart of "+string(id), func(s failover.State, v failover.View) (failover.State, error) {
		return failover.Restart(s, v, c.policy, id, "")
	})
}

// pending tells of the settings that wait for a restart since they were changed. A
// standby keeps what it needs, so of what gets lower only a primary tells.
func (n *node) pending(r *pgcluster.Report) {
	if !n.pg.running() || n.pg.started > n.c.changed {
		return
	}
	if n.c.higher {
		r.Higher = []string{"max_connections"}
	}
	if n.c.lower && !n.pg.standby {
		r.Lower = []string{"max_worker_processes"}
	}
}

// restart is the agent's work on the order of that name, once for each number.
func (n *node) restart() {
	p, o := &n.pg, n.order
	switch {
	case p.systemID == "" || p.broken || !p.standby || n.followed != o.Stamp.Epoch || p.upstream != o.Upstream:
		// not a standby that could be: it will be told otherwise
	case n.restarted < o.Restart && p.alive():
		n.task(10*time.Millisecond, 300*time.Millisecond, func() {
			if p.standby && p.alive() {
				n.end(pgcluster.ProcessStopped)
			}
		})
	case !p.alive():
		n.restarted = max(n.restarted, o.Restart)
		n.start()
		n.publish()
	case p.receiver != nil:
		n.finish()
	}
}
