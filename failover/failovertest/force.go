package failovertest

import (
	"slices"
	"time"

	"github.com/xpd-platform/xpd/failover"
)

// impatient lets somebody in some histories accept data loss whenever nothing else
// would go on for the moment.
func (c *cluster) impatient() {
	if !c.chance(8) {
		return
	}
	c.every(500*time.Millisecond, 2*time.Second, c.askForce)
	c.after(c.between(6*time.Second, 15*time.Second), c.losePatience)
}

// losePatience takes the primary's host, and PostgreSQL of so many standbys that no
// quorum is left, for longer than people wait. Raft keeps its majority: without it
// nothing is decided, whatever people accept.
func (c *cluster) losePatience() {
	p := c.nodeOf(c.raft.state.Primary.Node)
	if c.calm || p == nil {
		return
	}
	d := c.between(8*time.Second, 15*time.Second)
	p.killHost()
	c.after(d, p.startHost)
	set := c.raft.state.Sync.Durable
	for _, id := range set.Members[:min(set.K, len(set.Members))] {
		c.keepDown(c.nodeOf(id), c.now+d)
	}
}

// keepDown kills a PostgreSQL as often as it is started.
func (c *cluster) keepDown(n *node, until time.Duration) {
	if c.now < until && !c.calm {
		n.killPostgres()
		c.after(200*time.Millisecond, func() { c.keepDown(n, until) })
	}
}

// askForce is refused, mostly.
func (c *cluster) askForce() {
	if c.calm {
		return
	}
	c.ask("failover with data loss", func(s failover.State, v failover.View) (failover.State, error) {
		return failover.ForceFailover(s, v, c.policy, "", "asked for")
	})
}

// forgive ends the claims that people gave up: to what the node that they had promoted
// lacks, and to whatever is acknowledged in an older epoch from then on. All else must
// hold after it as before.
func (c *cluster) forgive(prev, next failover.State) {
	op := next.Op
	if op == nil || op.Phase != failover.PhasePromote || chosen(prev, op) ||
		op.Forced == nil || op.Forced.Loss == nil || (prev.Op != nil && prev.Op.Forced == op.Forced) {
		return
	}
	to := c.nodeOf(op.To)
	before := len(c.acked)
	c.acked = slices.DeleteFunc(c.acked, func(r *record) bool {
		if to.pg.has(r) {
			return false
		}
		delete(c.byLSN, r.lsn)
		return true
	})
	lost := before - len(c.acked)
	c.forgiven = op.Epoch
	c.healed = max(0, c.healed-lost)
	c.result.Forced++
	c.result.Lost += lost
	c.logf("%d commits are given up: %s", lost, op.Forced.Loss)
}
