package failovertest

import (
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// node is a host: PostgreSQL, and an xpd with its agent, observer and Raft member.
type node struct {
	c  *cluster
	i  int
	id pgcluster.NodeID
	up bool // the host

	voter   bool // in Raft
	wallOff time.Duration
	drift   float64 // of the clock, from those of the others
	ills    ills

	pg        postgres
	slowUntil time.Duration // reloads are slow
	hang      bool          // the next promotion hangs
	lagUntil  time.Duration // WAL arrives late
	lagMost   time.Duration // by how much
	behind    time.Duration // until then, a follower does not hear what Raft agreed on

	// Durable state of the agent.
	pledged   pgcluster.Stamp
	led       uint64
	followed  uint64
	restarted uint64 // number of the last restart order that was carried out
	cloned    uint64 // number of the last clone that was asked for, and made or taken back

	// What the agent forgets when xpd dies.
	xpd       bool
	life      int
	died      time.Duration // the last of them
	order     pgcluster.Order
	accepted  int  // orders so far: a task of an older one is dropped
	busy      bool // a task is under way
	done      bool
	recloned  bool // for this order
	refused   bool // the order was to lead twice in an epoch
	held      bool // PostgreSQL died by itself: it stays down until the node is told again
	recruited uint64
	barrier   uint64
	barrierAt pgcluster.LSN
	trying    uint64 // epoch of the barrier under way
	seq       uint64
	last      pgcluster.Report // while PostgreSQL answered

	detached uint64 // highest epoch that it ever reported to be recruited for

	// What the observer and the controller know.
	view    failover.View
	phase   phaseKey
	replica failover.State
	index   uint64
	leading uint64 // term that this node believes to lead; 0 if it does not
	saving  bool

	// The pool, by the number of the node that it connects to.
	sessions []*session
}

type phaseKey struct {
	op, epoch uint64
	phase     failover.Phase
	to        pgcluster.NodeID // whose turn it is to be restarted
}

// alive reports whether xpd runs.
func (n *node) alive() bool { return n.up && n.xpd }

// killXpd ends xpd; PostgreSQL lives on.
func (n *node) killXpd() {
	if !n.xpd {
		return
	}
	n.c.logf("%s: xpd dies", n.id)
	n.xpd = false
	n.forget()
}

func (n *node) forget() {
	if n.busy && n.pg.broken {
		n.loseData()
	}
	n.life++
	n.died = n.c.now
	n.accepted++
	n.forgetPool()
	n.order, n.busy, n.done, n.recloned, n.refused, n.held = pgcluster.Order{}, false, false, false, false, false
	n.recruited, n.barrier, n.barrierAt, n.trying, n.leading, n.saving = 0, 0, 0, 0, 0, false
}

func (n *node) startXpd() {
	if n.xpd || !n.up {
		return
	}
	n.c.logf("%s: xpd starts", n.id)
	n.xpd = true
	n.restore()
	n.view.Since = n.clock()
	n.view.Reports = map[pgcluster.NodeID]failover.Observation{}
	n.view.Streamed = map[pgcluster.NodeID]time.Duration{}
	n.view.Opened = nil
	n.phase = phaseKey{}
}

// killHost ends everything on the host. What was flushed stays.
func (n *node) killHost() {
	if !n.up {
		return
	}
	n.c.logf("%s: host lost", n.id)
	n.xpd = false
	n.up = false
	n.forget()
	if n.pg.alive() {
		n.end(pgcluster.ProcessCrashed)
	}
}

func (n *node) startHost() {
	if n.up {
		return
	}
	n.c.logf("%s: host returns", n.id)
	n.up = true
	n.startXpd()
}

// killPostgres is kill -9 of the postmaster.
func (n *node) killPostgres() {
	if n.pg.alive() {
		n.end(pgcluster.ProcessCrashed)
	}
}

// loseData leaves the node without a data directory.
func (n *node) loseData() {
	n.c.logf("%s has no data directory", n.id)
	if p := n.c.raft.state.Primary; p.Node == n.id && p.Access == failover.AccessOpen {
		n.c.fail("I7: the data of %s is replaced while it is primary", n.id)
	}
	n.pg = postgres{proc: pgcluster.ProcessStopped, life: n.pg.life + 1}
	n.led, n.followed = 0, 0
}

func (n *node) heartbeat() {
	if n.pg.running() && !n.pg.standby && n.pg.stopping == 0 && !n.takesNoWAL() {
		n.append(0)
	}
}

// report is what the agent says now.
func (n *node) report() pgcluster.Report {
	p := &n.pg
	n.seq++
	r := pgcluster.Report{
		Node: n.id, Seq: n.seq, SystemID: p.systemID, Process: p.proc, Role: pgcluster.RoleNone,
		Pledged: n.pledged, Led: n.led, Followed: n.followed, Restarted: n.restarted, Cloned: n.cloned,
		Order: pgcluster.OrderStatus{
			Kind: n.order.Kind, Stamp: n.order.Stamp, Upstream: n.order.Upstream,
			Timeline: n.order.Lineage.Current(), Reclone: n.order.Reclone, Clone: n.order.Clone, Done: n.done,
		},
	}
	n.pending(&r)
	if n.refused {
		r.Order.Error = "led in this epoch already"
	}
	if p.systemID == "" || p.broken {
		r.SystemID = ""
		return r
	}
	r.Role = pgcluster.RolePrimary
	if p.standby {
		r.Role = pgcluster.RoleStandby
	}
	if p.running() || (!p.alive() && p.clean) {
		r.Position, r.PositionKnown, r.Lineage = p.position(), true, p.lineage
	}
	if n.recruited != 0 && p.receiver == nil && (!p.alive() || p.standby) {
		r.Recruited = n.recruited
		n.detached = max(n.detached, n.recruited)
	}
	if p.running() {
		r.SyncNames, r.Open = p.loaded.Names(), p.open
		if p.loaded.Equal(n.order.Sync) && p.armed == (p.loaded.K > 0) {
			r.Order.SyncSeq = n.order.SyncSeq
		}
		r.Barrier, r.BarrierAt = n.barrier, n.barrierAt
		r.Replayed = p.end()
	}
	r.Receiver.Upstream = p.upstream
	if p.receiver != nil {
		r.Receiver.Streaming, r.Receiver.HeardAgo = true, n.c.now-p.receiver.heard
	}
	for _, l := range p.senders {
		s := pgcluster.Sender{Node: l.down.id, Streaming: l.streaming, Flushed: l.flushed, Replayed: l.flushed}
		if l.rule.Has(l.down.id) && l.rule.K > 0 {
			s.SyncPriority = 1
		}
		r.Senders = append(r.Senders, s)
	}
	n.evidence(&r)
	return r
}

// publish sends a report to every observer; the network decides who gets it.
func (n *node) publish() {
	if !n.alive() || !n.awake() {
		return
	}
	r := n.lastReport()
	for _, o := range n.c.nodes {
		d := n.c.between(time.Millisecond, 15*time.Millisecond)
		if o == n {
			d = time.Millisecond
		} else if n.c.chance(30) {
			d += n.c.between(0, 400*time.Millisecond)
		}
		n.c.after(d, func() { o.observe(n, r) })
	}
}

// lastReport is a report of now, or, if PostgreSQL does not answer, of when it did.
func (n *node) lastReport() pgcluster.Report {
	r := n.report()
	if n.silent() && n.pg.running() && n.last.Process == pgcluster.ProcessRunning {
		last := n.last
		last.Seq, last.Pledged, last.Led, last.Followed, last.Order = r.Seq, r.Pledged, r.Led, r.Followed, r.Order
		last.Order.SyncSeq = n.last.Order.SyncSeq
		last.Recruited = r.Recruited
		n.evidence(&last)
		return last
	}
	n.last = r
	return r
}

// observe takes a report in, unless it is older than what is known.
func (n *node) observe(from *node, r pgcluster.Report) {
	if !n.alive() || !n.awake() || (from != n && (!n.c.talk(from, n) || n.c.drops())) {
		return
	}
	if old, ok := n.view.Reports[r.Node]; ok && old.Report.Seq > r.Seq {
		return
	}
	n.view.Reports[r.Node] = failover.Observation{Report: r, At: n.clock()}
	if r.Node == n.replica.Primary.Node {
		for _, s := range r.Senders {
			if s.Streaming {
				n.view.Streamed[s.Node] = n.clock()
			}
		}
	}
}
