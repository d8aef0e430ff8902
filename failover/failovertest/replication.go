package failovertest

import (
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// link is a replication connection: a walsender at up, a walreceiver at down.
// Either end may be gone before the other knows.
type link struct {
	c        *cluster
	up, down *node
	slot     uint64            // epoch in the name of the slot that the walsender holds
	rule     pgcluster.SyncSet // as the walsender has loaded it

	streaming bool
	flushed   pgcluster.LSN // as the walsender was told
	heard     time.Duration // when the walreceiver last got something
	patience  time.Duration // how long either end bears silence
	busy      bool          // a batch or its answer is under way
	reloads   int           // of the postmaster that the walsender has acted on

	senderGone, receiverGone bool
}

// counts reports whether the walsender takes part in acknowledging.
func (l *link) counts() bool { return !l.senderGone && l.streaming && l.rule.Has(l.down.id) }

func (l *link) reload() {
	if l.senderGone {
		return
	}
	if l.up.silent() {
		l.c.after(l.c.between(100*time.Millisecond, 200*time.Millisecond), l.reload)
		return
	}
	l.load()
	l.up.release(l)
}

// load makes the postmaster's rule the walsender's own.
func (l *link) load() {
	l.rule, l.reloads = l.up.pg.loaded, l.up.pg.reloads
	l.c.checkRules()
}

// connectLater tries to connect a standby to its upstream, again and again.
func (n *node) connectLater() {
	life := n.pg.life
	n.c.after(n.c.between(20*time.Millisecond, 200*time.Millisecond), func() {
		if n.pg.life != life || !n.pg.alive() || !n.pg.standby {
			return
		}
		n.connect()
		n.connectLater()
	})
}

// connect starts streaming if PostgreSQL would: the upstream answers, is of the
// same system, and by its timeline numbers and LSNs this WAL is part of its own.
func (n *node) connect() {
	p := &n.pg
	up := n.c.nodeOf(p.upstream)
	if up == nil || up == n || !p.key || p.receiver != nil || !n.c.talk(n, up) || up.refuses() || n.silent() {
		return
	}
	if !up.pg.running() || up.pg.stopping > 0 || up.pg.systemID != p.systemID || up.streamsFrom(n) {
		return
	}
	if !up.pg.serving || up.pg.slots != p.slot || !up.knows(n) || up.serves(n) {
		return
	}
	p.newest = max(p.newest, up.pg.lineage.Current())
	if !up.pg.lineage.Holds(p.position()) || p.end() > up.pg.end() {
		return
	}
	l := &link{c: n.c, up: up, down: n, slot: p.slot, rule: up.pg.loaded, reloads: up.pg.reloads, heard: n.c.now, patience: n.c.between(2*time.Second, 6*time.Second)}
	p.receiver = l
	up.pg.senders = append(up.pg.senders, l)
	n.c.logf("%s streams from %s at %s", n.id, up.id, p.position())
	n.c.checkPrefix(l)
	n.c.checkRules()
	l.pump()
}

// serves reports whether a walsender holds the slot of n. It may be one that has not
// noticed yet that its connection is gone. Without slots PostgreSQL would count both,
// and one standby would be two of K.
func (n *node) serves(other *node) bool {
	return slices.ContainsFunc(n.pg.senders, func(l *link) bool { return l.down == other })
}

// streamsFrom reports whether n gets its WAL from other, over however many hops.
func (n *node) streamsFrom(other *node) bool {
	for m, hops := n, 0; m.pg.receiver != nil && hops < len(n.c.nodes); hops++ {
		if m = m.pg.receiver.up; m == other {
			return true
		}
	}
	return false
}

// pump sends what the walsender has, unless something is on its way already.
func (l *link) pump() {
	if l.busy || l.senderGone {
		return
	}
	l.busy = true
	up := &l.up.pg
	b := batch{wal: up.wal, lineage: up.lineage, epoch: l.up.led, cascaded: up.standby, reloads: up.reloads}
	l.c.after(l.delay(), func() { l.arrive(b) })
}

// delay is the time of a message between the two ends.
func (l *link) delay() time.Duration {
	return l.c.between(500*time.Microsecond, 12*time.Millisecond) + l.down.lag()
}

// batch is WAL on its way, with what the walsender's node was when it left.
type batch struct {
	wal      []*record
	lineage  pgcluster.Lineage
	epoch    uint64
	cascaded bool
	reloads  int // that the walsender was told of when it sent this
}

func (l *link) arrive(b batch) {
	switch {
	case l.receiverGone:
		return
	case !l.c.reach(l.up, l.down) || l.up.silent() || l.down.takesNoWAL():
		l.again(func() { l.arrive(b) })
		return
	}
	n, p := l.down, &l.down.pg
	if p.proc == pgcluster.ProcessStopped || p.proc == pgcluster.ProcessCrashed {
		return
	}
	l.heard = l.c.now
	if len(p.wal) < len(b.wal) {
		if n.full() {
			n.end(pgcluster.ProcessCrashed)
			return
		}
		l.c.checkPledge(l, b)
		p.wal = append(p.wal, b.wal[len(p.wal):]...)
		n.adoptLineage(b.lineage)
		n.answerWhenConsistent()
		for _, s := range p.senders {
			s.pump()
		}
	}
	flushed := p.end()
	l.c.after(l.delay(), func() { l.answer(flushed, b.reloads) })
}

// adoptLineage takes over the history of the timeline that the WAL has come to.
func (n *node) adoptLineage(l pgcluster.Lineage) {
	t := n.pg.position().Timeline
	n.pg.newest = max(n.pg.newest, t)
	if i := slices.IndexFunc(l, func(s pgcluster.Switch) bool { return s.Child == t }); i >= 0 {
		n.pg.lineage = slices.Clone(l[:i+1])
	}
}

// answer tells the walsender. It has come round since it sent, and then it reads the
// configuration, if it was told to, before it reads what arrived.
func (l *link) answer(flushed pgcluster.LSN, reloads int) {
	switch {
	case l.senderGone:
		return
	case !l.c.reach(l.down, l.up) || l.up.silent() || l.down.silent():
		l.again(func() { l.answer(flushed, reloads) })
		return
	}
	l.busy = false
	if l.reloads < reloads {
		l.load()
	}
	l.flushed = flushed
	l.streaming = l.streaming || flushed+5 >= l.up.pg.end()
	l.up.release(l)
	if l.up.pg.end() > flushed {
		l.pump()
	}
}

// again retries what the network did not carry, until an end has had enough.
func (l *link) again(f func()) {
	if l.c.now-l.heard > l.patience {
		l.loseReceiver()
		l.loseSender()
		return
	}
	l.c.after(l.c.between(50*time.Millisecond, 150*time.Millisecond), f)
}

// loseSender ends the walsender; the walreceiver learns of it later.
func (l *link) loseSender() {
	if l.senderGone {
		return
	}
	l.senderGone = true
	l.up.pg.senders = slices.DeleteFunc(l.up.pg.senders, func(o *link) bool { return o == l })
	l.tell(l.up, l.down, l.loseReceiver)
}

func (l *link) loseReceiver() {
	if l.receiverGone {
		return
	}
	l.receiverGone = true
	if l.down.pg.receiver == l {
		l.down.pg.receiver = nil
	}
	l.tell(l.down, l.up, l.loseSender)
}

// tell tells the other end at once if the network is whole, else after a timeout.
func (l *link) tell(from, to *node, f func()) {
	d := l.c.between(time.Millisecond, 20*time.Millisecond)
	if !l.c.reach(from, to) {
		d = l.patience
	}
	l.c.after(d, f)
}
