package failovertest

import (
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// accept takes an order as it comes from the network.
func (n *node) accept(o pgcluster.Order) {
	if !n.alive() || !n.awake() || o.Stamp.Before(n.pledged) {
		return
	}
	if o.SystemID != "" && n.pg.systemID != "" && o.SystemID != n.pg.systemID {
		return
	}
	n.pledged = o.Stamp
	n.held = false
	same := n.order
	same.Stamp.Term, same.Stamp.Index = o.Stamp.Term, o.Stamp.Index
	if equalOrders(same, o) {
		n.order.Stamp = o.Stamp
		return
	}
	n.c.logf("%s accepts %s e%d/%d/%d up=%s tl=%d reclone=%t sync=%s open=%t", n.id, o.Kind, o.Stamp.Epoch,
		o.Stamp.Term, o.Stamp.Index, o.Upstream, o.Lineage.Current(), o.Reclone, o.Sync, o.Open)
	if n.busy && n.pg.broken {
		n.loseData()
	}
	n.order, n.done, n.busy, n.recloned, n.refused = o, false, false, false, false
	n.accepted++
	n.act()
}

func equalOrders(a, b pgcluster.Order) bool {
	return a.Kind == b.Kind && a.Stamp == b.Stamp && a.SystemID == b.SystemID && a.Upstream == b.Upstream &&
		slices.Equal(a.Lineage, b.Lineage) && a.Reclone == b.Reclone && a.Sync.Equal(b.Sync) && a.SyncSeq == b.SyncSeq &&
		a.Barrier == b.Barrier && a.Open == b.Open && a.Restart == b.Restart && a.Clone == b.Clone && a.Discard == b.Discard && a.Void == b.Void
}

// act does the next step towards the order.
func (n *node) act() {
	if !n.alive() || !n.awake() || n.busy || n.held {
		return
	}
	if k := n.order.Kind; n.pg.stopping > 0 && (k == pgcluster.OrderStop || k == pgcluster.OrderLead) {
		n.shutDown() // nothing takes that back
		return
	}
	switch n.order.Kind {
	case pgcluster.OrderInit:
		n.init()
	case pgcluster.OrderRecruit:
		n.recruit()
	case pgcluster.OrderLead:
		n.lead()
	case pgcluster.OrderFollow:
		n.follow()
	case pgcluster.OrderCheckpoint:
		if !n.done {
			n.task(50*time.Millisecond, 500*time.Millisecond, n.finish)
		}
	case pgcluster.OrderStop:
		n.stop()
	case pgcluster.OrderRestart:
		n.restart()
	case pgcluster.OrderRest:
		n.finish()
	}
}

// task does f after a while, unless xpd dies or another order comes before.
func (n *node) task(lo, hi time.Duration, f func()) {
	n.busy = true
	accepted := n.accepted
	n.c.after(n.c.between(lo, hi), func() {
		if n.accepted != accepted || !n.alive() {
			return
		}
		if n.suspended() {
			n.task(lo, hi, f)
			return
		}
		n.busy = false
		f()
		n.act()
	})
}

func (n *node) finish() {
	if !n.done {
		n.done = true
		n.publish()
	}
}

func (n *node) init() {
	p := &n.pg
	switch {
	case p.systemID == "":
		n.task(100*time.Millisecond, time.Second, func() {
			if n.c.inits++; n.c.inits > 1 {
				n.c.fail("I7: %s runs initdb, though the cluster exists", n.id)
			}
			p.systemID = "system"
			p.wal = []*record{{timeline: 1, lsn: 1, node: n.id}}
			p.newest = 1
			n.led = n.order.Stamp.Epoch
			n.start()
		})
	case !p.alive() && !p.standby:
		n.start()
	case p.running() && !p.standby:
		n.finish()
	}
}

func (n *node) recruit() {
	p := &n.pg
	switch {
	case p.systemID == "" || n.recruited == n.order.Stamp.Epoch && p.alive() == p.standby:
	case !p.standby && p.alive():
		n.task(10*time.Millisecond, 200*time.Millisecond, func() {
			if !p.standby && p.alive() {
				n.end(pgcluster.ProcessStopped)
			}
		})
	case !p.standby:
		n.detach()
	case p.key || p.upstream != "" || p.serving:
		n.task(time.Millisecond, 20*time.Millisecond, func() { p.key, p.upstream, p.serving = false, "", false })
	case !p.alive():
		n.start()
	case p.receiver != nil:
		n.task(time.Millisecond, 30*time.Millisecond, func() {
			if p.receiver != nil {
				p.receiver.loseReceiver()
			}
		})
	case p.running() && !n.refuses():
		n.detach()
	}
}

func (n *node) detach() {
	n.recruited = n.order.Stamp.Epoch
	n.done = true
	n.publish()
}

func (n *node) stop() {
	p := &n.pg
	switch {
	case p.systemID == "" || p.standby:
	case !p.alive():
		if n.recruited != n.order.Stamp.Epoch {
			n.detach()
		}
	case n.takesNoWAL():
	case p.stopping == 0:
		p.open = 0
		n.task(0, 300*time.Millisecond, func() {
			if p.running() && p.stopping == 0 {
				p.stopping = n.c.now
				n.append(0) // the shutdown checkpoint
			}
		})
	}
}

// shutDown ends a server that was asked to stop: when its standbys have everything, or
// by force.
func (n *node) shutDown() {
	p := &n.pg
	switch {
	case n.takesNoWAL():
	case n.received():
		n.end(pgcluster.ProcessStopped)
		p.clean = true
	case n.c.now-p.stopping > 1500*time.Millisecond:
		n.end(pgcluster.ProcessStopped)
		p.clean = n.c.chance(2)
	}
}

// received reports whether every connected standby has everything.
func (n *node) received() bool {
	return !slices.ContainsFunc(n.pg.senders, func(l *link) bool { return l.flushed < n.pg.end() })
}

func (n *node) lead() {
	p, o := &n.pg, n.order
	switch {
	case p.systemID == "" || (n.refuses() && p.running()):
	case p.promoting:
		n.adopt(o) // asked for in an epoch before
	case p.standby && !p.alive():
		p.key, p.upstream = false, ""
		n.start()
	case p.standby && p.running():
		n.preset(o)
	case !p.standby && !p.alive():
		if n.led < o.Stamp.Epoch { // once per epoch
			n.led, n.recruited = o.Stamp.Epoch, 0
			p.names = o.Sync
			n.start()
			n.publish()
		} else if !n.refused {
			n.refused = true
			n.publish()
		}
	case !p.standby && p.running():
		n.beLed(o)
	}
}

// preset puts the sync names in force on a standby and promotes it then.
func (n *node) preset(o pgcluster.Order) {
	p := &n.pg
	switch {
	case p.slots != o.Stamp.Epoch:
		n.makeSlots(o.Stamp.Epoch, p.serving)
	case !p.names.Equal(o.Sync):
		n.reload(o.Sync)
	case !p.loaded.Equal(o.Sync):
	case !p.serving:
		p.serving = true // by the same reload
		n.act()
	default:
		n.task(time.Millisecond, 30*time.Millisecond, func() {
			if p.standby && p.running() {
				n.led, n.recruited = o.Stamp.Epoch, 0
				n.promote()
			}
		})
	}
}

// makeSlots gives every other member a slot of the epoch, and nobody another one: those
// who stream through one end. Only then may replication log in.
func (n *node) makeSlots(epoch uint64, serve bool) {
	p, life := &n.pg, n.pg.life
	n.task(time.Millisecond, 50*time.Millisecond, func() {
		if p.life != life || !p.running() {
			return
		}
		p.slots, p.serving = epoch, serve
		n.endStrangers()
	})
}

// endStrangers ends who streams through a slot that the node should not have.
func (n *node) endStrangers() {
	for _, l := range slices.Clone(n.pg.senders) {
		if l.slot != n.pg.slots || !n.knows(l.down) {
			l.loseSender()
		}
	}
}

// knows reports whether o is a member with a PostgreSQL, as far as n has heard.
func (n *node) knows(o *node) bool {
	m, ok := n.replica.Member(o.id)
	return ok && m.Data()
}

// adopt makes a promotion that was asked for in an epoch before, and that no client
// has used, one of this epoch.
func (n *node) adopt(o pgcluster.Order) {
	if n.led < o.Stamp.Epoch {
		n.led, n.recruited = o.Stamp.Epoch, 0
		n.publish()
	}
}

// beLed keeps a running primary as ordered.
func (n *node) beLed(o pgcluster.Order) {
	p, epoch := &n.pg, o.Stamp.Epoch
	if n.led < epoch && p.open != 0 {
		return
	}
	n.adopt(o)
	if p.slots != epoch || !p.serving {
		n.makeSlots(epoch, true)
		return
	}
	n.endStrangers()
	if o.Open && o.Barrier && n.barrier == epoch {
		n.letIn(epoch) // the rule that the barrier proved will do until the order's is loaded
	}
	if !p.names.Equal(o.Sync) {
		n.reload(o.Sync)
	}
	if !p.loaded.Equal(o.Sync) || n.takesNoWAL() {
		return
	}
	if o.Barrier && n.barrier != epoch && n.trying != epoch {
		n.trying = epoch
		life, life2 := n.life, p.life
		n.commit(0, func() {
			if n.life == life && p.life == life2 {
				n.barrier, n.barrierAt = epoch, p.end()
				n.publish()
			}
		})
	}
	if o.Open {
		n.letIn(epoch)
	}
	n.done = !o.Open || p.open == epoch
}

// letIn opens a primary to clients.
func (n *node) letIn(epoch uint64) {
	p := &n.pg
	if p.open == epoch {
		return
	}
	n.c.checkOpen(n, epoch)
	p.open, p.locked = epoch, false
	n.c.checkRules()
	n.c.logf("%s is open in epoch %d", n.id, epoch)
	n.publish()
}
