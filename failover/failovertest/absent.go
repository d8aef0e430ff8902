package failovertest

import (
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// askMaintenance lets somebody work on a host. Once it is released, PostgreSQL there is
// stopped by hand, and now and then the host.
func (c *cluster) askMaintenance(n *node) {
	until := time.Unix(0, 0).Add(c.now + c.between(time.Second, 10*time.Second))
	c.ask("maintenance of "+string(n.id), func(s failover.State, v failover.View) (failover.State, error) {
		return failover.SetMaintenance(s, v, c.policy, n.id, until, "asked for")
	})
	c.after(c.between(500*time.Millisecond, 3*time.Second), func() {
		if a := c.raft.state.Absent[n.id]; a.Kind != failover.AbsenceMaintenance || c.raft.state.Sync.Durable.Has(n.id) || c.calm {
			return
		}
		if c.chance(3) {
			c.loseHost(n)
			return
		}
		if n.pg.alive() {
			n.end(pgcluster.ProcessCrashed) // the agent cannot tell that from a death
		}
	})
	if c.chance(2) {
		c.after(c.between(time.Second, 6*time.Second), func() {
			c.ask("the end of maintenance of "+string(n.id), func(s failover.State, v failover.View) (failover.State, error) {
				return failover.EndMaintenance(s, v, c.policy, n.id, "asked for")
			})
		})
	}
}

// askReclone lets somebody have a standby's data copied anew, and sometimes repent.
func (c *cluster) askReclone(n *node) {
	discard := c.chance(2)
	c.ask("reclone of "+string(n.id), func(s failover.State, v failover.View) (failover.State, error) {
		return failover.Reclone(s, v, c.policy, n.id, discard, "asked for")
	})
	if c.chance(2) {
		c.after(c.between(0, 2*time.Second), func() {
			c.ask("no reclone of "+string(n.id), func(s failover.State, v failover.View) (failover.State, error) {
				return failover.CancelReclone(s, v, c.policy, n.id, "asked for")
			})
		})
	}
}

// askFence lets somebody fence a node, and take that back until it is heard. If it is the
// primary, somebody may ask for another one meanwhile.
func (c *cluster) askFence(n *node) {
	c.ask("fence of "+string(n.id), func(s failover.State, v failover.View) (failover.State, error) {
		return failover.Fence(s, v, c.policy, n.id, "asked for")
	})
	if c.chance(2) {
		c.after(c.between(500*time.Millisecond, 3*time.Second), c.switchover)
	}
	c.after(c.between(time.Second, 8*time.Second), func() { c.unfence(n) })
}

func (c *cluster) unfence(n *node) {
	if c.raft.state.Absent[n.id].Kind != failover.AbsenceFence {
		return
	}
	c.ask("unfence of "+string(n.id), func(s failover.State, v failover.View) (failover.State, error) {
		return failover.Unfence(s, v, c.policy, n.id, "asked for")
	})
	c.after(c.between(500*time.Millisecond, 2*time.Second), func() { c.unfence(n) })
}

// checkLeftAlone holds orders to what people were promised: on a host in maintenance
// PostgreSQL is neither started nor stopped, and a fenced one is stopped and nothing else,
// once no commit rests on it.
func (c *cluster) checkLeftAlone(s failover.State, orders []pgcluster.Order) {
	for _, o := range orders {
		a, absent := s.Absent[o.Node]
		relied := s.Sync.Durable.Has(o.Node) || (s.Sync.Pending != nil && s.Sync.Pending.Has(o.Node)) || (s.Op != nil && s.Op.Sync.Has(o.Node))
		named := s.Op != nil && (s.Op.From == o.Node || s.Op.To == o.Node)
		switch {
		case !absent || relied || named:
		case a.Kind == failover.AbsenceMaintenance && o.Kind != pgcluster.OrderRest,
			a.Kind == failover.AbsenceFence && o.Kind != pgcluster.OrderStop:
			c.fail("people: %s is ordered to %s, though it is left out: %s", o.Node, o.Kind, a)
		}
	}
}

// checkWanted holds a choice to it, too.
func (c *cluster) checkWanted(s failover.State) {
	op := s.Op
	if a, absent := s.Absent[op.To]; absent && (op.Forced == nil || op.Forced.To != op.To) {
		c.fail("people: %s is chosen for epoch %d, though it is left out: %s", op.To, op.Epoch, a)
	}
}
