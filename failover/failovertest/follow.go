package failovertest

import (
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// follow brings a node to stream from the upstream: as it is, by rewind, by clone.
func (n *node) follow() {
	p, o := &n.pg, n.order
	n.void()
	switch {
	case p.broken || (p.systemID != "" && n.mustClone()):
		n.task(10*time.Millisecond, 200*time.Millisecond, func() {
			if p.alive() {
				n.end(pgcluster.ProcessStopped)
			}
			n.loseData()
			n.recloned = true
		})
	case p.systemID == "":
		n.clone(n.c.nodeOf(o.Upstream))
	case !p.standby && p.alive():
		n.task(10*time.Millisecond, 200*time.Millisecond, func() {
			if !p.standby && p.alive() {
				n.end(pgcluster.ProcessStopped)
			}
		})
	case !p.standby:
		p.standby, p.key, p.upstream = true, false, ""
	case !fits(o.Lineage, p.position()) && p.alive():
		n.task(10*time.Millisecond, 200*time.Millisecond, func() {
			if p.alive() { // it may have died meanwhile, which is reported as such
				n.end(pgcluster.ProcessStopped)
			}
		})
	case !fits(o.Lineage, p.position()):
		n.rewind(n.c.nodeOf(o.Upstream))
	case p.upstream != o.Upstream || !p.key || n.followed != o.Stamp.Epoch || p.slot != o.Stamp.Epoch:
		n.task(time.Millisecond, 30*time.Millisecond, func() { n.point(o) })
	case !p.alive():
		n.start()
	case p.receiver != nil && p.receiver.up.id == o.Upstream:
		n.finish()
	}
}

// void keeps a clone that was asked for and taken back from ever being made.
func (n *node) void() {
	if o := n.order; o.Void && n.cloned < o.Clone {
		n.cloned = o.Clone
		n.publish()
	}
}

// mustClone reports whether the data that are there are to go, once for each order.
func (n *node) mustClone() bool {
	o := n.order
	return !n.recloned &&
		(o.Clone > n.cloned || (o.Reclone && n.followed != o.Stamp.Epoch) || conflicts(n.pg.lineage, o.Lineage))
}

// fits reports whether WAL that ends at pos needs no rewind. A timeline that the
// order does not know yet is the upstream's own, since who strays is cloned: it was
// promoted after the order was given.
func fits(l pgcluster.Lineage, pos pgcluster.Position) bool {
	return l.Holds(pos) || pos.Timeline > l.Current()
}

// conflicts reports whether the two histories give one timeline number to two
// timelines.
func conflicts(a, b pgcluster.Lineage) bool {
	for _, s := range a {
		if slices.ContainsFunc(b, func(t pgcluster.Switch) bool { return t.Child == s.Child && t != s }) {
			return true
		}
	}
	return false
}

// point tells a standby whom to stream from; the walreceiver of before ends.
func (n *node) point(o pgcluster.Order) {
	p := &n.pg
	n.followed, n.recruited = o.Stamp.Epoch, 0
	p.upstream, p.key, p.slot, p.serving = o.Upstream, true, o.Stamp.Epoch, false
	if p.receiver != nil && (p.receiver.up.id != o.Upstream || p.receiver.slot != p.slot) {
		p.receiver.loseReceiver()
	}
}

// clone takes a base backup; until it is whole there is no data directory.
func (n *node) clone(up *node) {
	if !n.canCopy(up) {
		return
	}
	life := up.pg.life
	n.task(300*time.Millisecond, 2*time.Second, func() {
		if !n.canCopy(up) || up.pg.life != life {
			return
		}
		n.copyOf(up, nil)
		n.c.logf("%s cloned %s up to %s", n.id, up.id, n.pg.position())
	})
}

// rewind cuts off what the upstream never had. An interrupted one leaves a data
// directory that is good for nothing.
func (n *node) rewind(up *node) {
	if !n.canCopy(up) {
		return
	}
	life := up.pg.life
	n.pg.broken = true
	n.task(200*time.Millisecond, 1500*time.Millisecond, func() {
		if !n.canCopy(up) || up.pg.life != life {
			n.loseData()
			return
		}
		at := fork(n.pg.position(), n.pg.lineage, up.pg.lineage)
		n.c.logf("%s rewinds from %s to %s, to follow %s", n.id, n.pg.position(), at, up.id)
		n.copyOf(up, n.pg.wal[:min(at, n.pg.end(), up.pg.end())])
	})
}

// canCopy reports whether n may copy from up, and be sure that what it gets was
// written in the epoch of its order: another one has other slots.
func (n *node) canCopy(up *node) bool {
	return up != nil && up != n && n.c.talk(n, up) && !up.refuses() && !n.takesNoWAL() && !n.full() && up.pg.running() && !up.pg.standby && up.pg.stopping == 0 &&
		up.pg.slots == n.order.Stamp.Epoch && up.knows(n)
}

// copyOf makes a standby of up's data. A rewind keeps its own WAL up to the fork
// and streams the rest; it answers only when it has what up had.
func (n *node) copyOf(up *node, kept []*record) {
	n.pg = postgres{
		systemID: up.pg.systemID, newest: up.pg.newest, standby: true, names: up.pg.names,
		proc: pgcluster.ProcessStopped, life: n.pg.life + 1, consistent: len(up.pg.wal),
	}
	n.led, n.followed = 0, n.order.Stamp.Epoch
	if kept == nil {
		n.cloned = max(n.cloned, n.order.Clone)
		n.pg.wal, n.pg.lineage = slices.Clone(up.pg.wal), up.pg.lineage
		return
	}
	n.pg.wal = slices.Clone(kept)
	n.adoptLineage(up.pg.lineage)
}

// fork returns where a node's history left that of src, going by the numbers.
func fork(pos pgcluster.Position, own, src pgcluster.Lineage) pgcluster.LSN {
	chain := []pgcluster.Timeline{1}
	for _, s := range own {
		chain = append(chain, s.Child)
	}
	for _, t := range slices.Backward(chain) {
		if !src.Has(t) {
			continue
		}
		at := pos.LSN
		if left, ok := own.Left(t); ok {
			at = left
		}
		if left, ok := src.Left(t); ok {
			at = min(at, left)
		}
		return at
	}
	return 0
}
