package failovertest

import "github.com/xpd-platform/xpd/failover"

// write is one client: it asks some node who is open, however old its answer, and
// writes there. PostgreSQL lets it in unless the agent has closed it.
func (c *cluster) write() {
	from := c.any()
	s := from.replica.Primary
	if !from.alive() || s.Access != failover.AccessOpen {
		return
	}
	n := c.nodeOf(s.Node)
	p := &n.pg
	if (n != from && !c.talk(from, n)) || !p.running() || p.standby || p.stopping > 0 || p.open == 0 {
		return
	}
	c.commits++
	epoch := n.led
	life := p.life
	lsn := p.end() + 1
	n.commit(c.commits, func() {
		if p.life == life {
			c.acknowledged(n, epoch, p.wal[lsn-1])
		}
	})
}
