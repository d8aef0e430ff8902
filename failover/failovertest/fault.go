package failovertest

import (
	"time"

	"github.com/xpd-platform/xpd/failover"
)

// nextFault does some harm and plans the next.
func (c *cluster) nextFault() {
	if c.calm {
		return
	}
	c.fault(c.any())
	if c.chance(4) {
		c.after(c.between(0, 300*time.Millisecond), c.nextFault) // two at nearly once
		return
	}
	c.after(c.between(300*time.Millisecond, 5*time.Second), c.nextFault)
}

func (c *cluster) fault(n *node) {
	switch c.rng.IntN(29) {
	case 0, 1:
		n.killPostgres()
	case 2, 3:
		c.loseHost(n)
	case 4:
		c.loseXpd(n)
	case 5:
		c.cutOff(n, c.chance(3))
	case 6, 7:
		c.cutLink(n, c.any(), c.between(300*time.Millisecond, 6*time.Second))
	case 8:
		c.elect()
	case 9, 10, 28:
		c.wish()
	case 11:
		c.logf("%s reloads slowly", n.id)
		n.slowUntil = c.now + 5*time.Second
	case 12:
		n.hang = true
	case 13:
		c.powerCycle()
	case 14, 15:
		if p := c.nodeOf(c.raft.state.Primary.Node); p != nil {
			c.hurt(p)
		}
	case 16, 17, 18:
		n.lagUntil, n.lagMost = c.now+c.between(time.Second, 10*time.Second), c.between(20*time.Millisecond, 2*time.Second)
		c.logf("%s gets WAL up to %s late until %s", n.id, n.lagMost.Round(time.Millisecond), n.lagUntil.Round(time.Millisecond))
	case 19:
		n.behind = c.now + c.between(time.Second, 8*time.Second)
		c.logf("%s hears nothing of Raft's log until %s", n.id, n.behind.Round(time.Millisecond))
	case 21, 22, 23:
		if c.chance(2) {
			if p := c.nodeOf(c.raft.state.Primary.Node); p != nil {
				n = p
			}
		}
		n.fallIll()
	case 24:
		n.wallOff = c.between(0, 20*time.Minute) - 10*time.Minute
		c.logf("%s: the wall clock is off by %s", n.id, n.wallOff.Round(time.Second))
	case 25:
		c.flap(n, c.any(), c.now+c.between(time.Second, 8*time.Second))
	case 26:
		c.lossy = c.now + c.between(time.Second, 8*time.Second)
		c.logf("messages get lost until %s", c.lossy.Round(time.Millisecond))
	case 27:
		if p := c.nodeOf(c.raft.state.Primary.Node); p != nil {
			p.cancelWaits()
		}
	case 20:
		n.killReceiver()
	}
}

func (n *node) killReceiver() {
	if r := n.pg.receiver; r != nil {
		n.c.logf("%s: walreceiver dies", n.id)
		r.loseReceiver()
	}
}

// aim hurts whom a change of state matters to, at the moment when it does.
func (c *cluster) aim(prev, next failover.State) {
	if c.calm || c.now < 3*time.Second {
		return
	}
	var at *node
	switch {
	case next.Op != nil && (prev.Op == nil || prev.Op.Phase != next.Op.Phase || prev.Op.Epoch != next.Op.Epoch):
		at = c.nodeOf(next.Op.To)
		if at == nil || c.chance(3) {
			at = c.any()
		}
		if !c.chance(5) {
			return
		}
	case next.Sync.Pending != nil, prev.Sync.Pending != nil:
		at = c.nodeOf(next.Primary.Node)
		if !c.chance(4) {
			return
		}
	case next.Primary.Epoch > prev.Primary.Epoch && c.chance(5):
		at = c.nodeOf(next.Primary.Node)
	default:
		return
	}
	c.after(c.between(0, 400*time.Millisecond), func() {
		if !c.calm {
			c.hurt(at)
		}
	})
}

func (c *cluster) hurt(n *node) {
	switch c.rng.IntN(6) {
	case 0, 1:
		n.killPostgres()
	case 2:
		c.loseHost(n)
	case 3:
		c.loseXpd(n)
	case 4:
		c.cutOff(n, false)
	case 5:
		c.elect()
	}
}

func (c *cluster) loseHost(n *node) {
	n.killHost()
	c.after(c.between(200*time.Millisecond, 10*time.Second), n.startHost)
}

func (c *cluster) loseXpd(n *node) {
	n.killXpd()
	c.after(c.between(100*time.Millisecond, 5*time.Second), n.startXpd)
}

func (c *cluster) powerCycle() {
	c.logf("power cycle")
	for _, n := range c.nodes {
		c.loseHost(n)
	}
}

// cutLink drops what goes from a to b; both ways, mostly.
func (c *cluster) cutLink(a, b *node, d time.Duration) {
	if a == b {
		return
	}
	oneWay := c.chance(3)
	c.logf("link from %s to %s is cut for %s, one way %t", a.id, b.id, d.Round(time.Millisecond), oneWay)
	c.cutOneWay(a, b, d)
	if !oneWay {
		c.cutOneWay(b, a, d)
	}
}

// flap cuts a link again and again, for about as long as it is whole between.
func (c *cluster) flap(a, b *node, until time.Duration) {
	if c.calm || c.now >= until {
		return
	}
	d := c.between(20*time.Millisecond, time.Second)
	c.cutLink(a, b, d)
	c.after(2*d, func() { c.flap(a, b, until) })
}

func (c *cluster) cutOneWay(a, b *node, d time.Duration) {
	c.cut[a.i][b.i]++
	c.after(d, func() { c.cut[a.i][b.i]-- })
}

// cutOff separates a node from all others, or the halves of the cluster.
func (c *cluster) cutOff(n *node, halves bool) {
	d := c.between(500*time.Millisecond, 8*time.Second)
	c.logf("%s is cut off for %s, with others %t", n.id, d.Round(time.Millisecond), halves)
	friend := n
	if halves {
		friend = c.any()
	}
	for _, o := range c.nodes {
		if o == n || o == friend {
			continue
		}
		for _, in := range []*node{n, friend} {
			c.cutOneWay(in, o, d)
			c.cutOneWay(o, in, d)
			if friend == n {
				break
			}
		}
	}
}

// heal ends all faults. Cuts and absences that are under way end by themselves.
func (c *cluster) heal() {
	c.calm, c.lossy = true, 0
	c.healed = len(c.acked)
	c.logf("no more faults")
	for _, n := range c.nodes {
		n.recover()
		n.hang, n.slowUntil, n.lagUntil, n.behind, n.wallOff = false, 0, 0, 0, 0
	}
}
