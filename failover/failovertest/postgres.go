package failovertest

import (
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// record is one WAL record. Two records are the same only if they are identical:
// a timeline and an LSN do not tell.
type record struct {
	timeline pgcluster.Timeline
	lsn      pgcluster.LSN // its end
	commit   uint64        // of a client; 0 for everything else
	acked    bool          // a client was told that it is committed, or was shown it
	epoch    uint64        // that the writer led
	node     pgcluster.NodeID
}

// postgres is a data directory and, while proc says so, the server on it.
type postgres struct {
	systemID   string // empty without a data directory
	wal        []*record
	lineage    pgcluster.Lineage
	newest     pgcluster.Timeline // highest that a local history file names
	standby    bool               // standby.signal is there
	clean      bool               // the control file says that it was shut down
	consistent int                // WAL that is needed before it answers, after a clone or rewind
	broken     bool               // a rewind was interrupted

	proc      pgcluster.Process
	life      int // changes with every start and end
	started   time.Duration
	promoting bool
	stopping  time.Duration // when a fast shutdown began; 0 if none did

	names    pgcluster.SyncSet // in the configuration file
	loaded   pgcluster.SyncSet // by the postmaster, and so by new processes
	armed    bool              // the checkpointer has told everybody that commits wait
	reloads  int               // that the postmaster has passed on
	open     uint64            // epoch that clients are let in for
	locked   bool              // pools cannot log in: what a crash made visible is not proved yet
	upstream pgcluster.NodeID
	key      bool   // the password for the upstream is there
	slot     uint64 // epoch in the name of the slot to stream through

	// Of the slots for others: whose epoch is in their names, and whether
	// replication may log in. Slots stay when it may not, and so do those who hold one.
	slots   uint64
	serving bool

	receiver *link
	senders  []*link
	waiting  []waiter
}

// waiter is a commit that waits for its standbys.
type waiter struct {
	lsn      pgcluster.LSN
	released func()
}

func (p *postgres) alive() bool {
	return p.proc == pgcluster.ProcessRunning || p.proc == pgcluster.ProcessStarting
}

func (p *postgres) running() bool { return p.proc == pgcluster.ProcessRunning }

func (p *postgres) end() pgcluster.LSN { return pgcluster.LSN(len(p.wal)) }

// position is the end of the WAL. Its timeline is that of the last record.
func (p *postgres) position() pgcluster.Position {
	pos := pgcluster.Position{Timeline: 1, LSN: p.end()}
	if len(p.wal) > 0 {
		pos.Timeline = p.wal[len(p.wal)-1].timeline
	}
	return pos
}

func (p *postgres) has(r *record) bool {
	return r.lsn <= p.end() && p.wal[r.lsn-1] == r
}

// append writes a record on a primary and wakes the walsenders.
func (n *node) append(commit uint64) pgcluster.LSN {
	p := &n.pg
	r := &record{timeline: p.lineage.Current(), lsn: p.end() + 1, commit: commit, epoch: n.led, node: n.id}
	p.wal = append(p.wal, r)
	for _, l := range p.senders {
		l.pump()
	}
	return r.lsn
}

// commit writes a record and calls released when PostgreSQL would return.
func (n *node) commit(id uint64, released func()) {
	lsn := n.append(id)
	if !n.pg.armed {
		released()
		return
	}
	n.pg.waiting = append(n.pg.waiting, waiter{lsn: lsn, released: released})
}

// cancelWaits has some commits wait no longer: their clients are told that nobody knows,
// and everybody else sees the rows.
func (n *node) cancelWaits() {
	p := &n.pg
	before := len(p.waiting)
	p.waiting = slices.DeleteFunc(p.waiting, func(w waiter) bool {
		return p.wal[w.lsn-1].commit != 0 && !n.c.chance(4)
	})
	n.c.logf("%s: %d commits are cancelled while they wait", n.id, before-len(p.waiting))
}

// release acknowledges waiting commits as the walsender of l sees them: it counts
// the walsenders that have given themselves a priority, and asks its own rule for
// how many there must be.
func (n *node) release(l *link) {
	if !l.counts() || l.rule.K == 0 {
		return
	}
	var flushed []pgcluster.LSN
	for _, s := range n.pg.senders {
		if s.counts() {
			flushed = append(flushed, s.flushed)
		}
	}
	if len(flushed) < l.rule.K {
		return
	}
	slices.Sort(flushed)
	upTo := flushed[len(flushed)-l.rule.K]
	waiting := n.pg.waiting
	n.pg.waiting = nil
	for _, w := range waiting {
		if w.lsn <= upTo {
			w.released()
		} else {
			n.pg.waiting = append(n.pg.waiting, w)
		}
	}
}

// reload makes the names in the file the rule in force: first in the postmaster,
// then in each walsender, each in its own time.
func (n *node) reload(names pgcluster.SyncSet) {
	n.pg.names = names
	n.c.logf("%s writes sync names %q", n.id, names.Names())
	life := n.pg.life
	n.c.after(n.reloadDelay(), func() {
		n.loadNames(life)
	})
}

// loadNames is the postmaster's reload. Everybody else hears of it at once and acts on
// it later.
func (n *node) loadNames(life int) {
	switch {
	case n.pg.life != life || !n.pg.alive():
		return
	case n.refuses(): // it is stopped
		n.c.after(n.c.between(100*time.Millisecond, 200*time.Millisecond), func() { n.loadNames(life) })
		return
	}
	n.pg.loaded = n.pg.names
	n.pg.reloads++
	n.c.checkRules()
	n.c.after(n.reloadDelay(), func() { n.arm(life) })
	for _, l := range n.pg.senders {
		n.c.after(n.reloadDelay(), func() { l.reload() })
	}
	n.publish()
}

// arm is the checkpointer's part: backends ask it, and not the rule, whether to wait
// at all. Those who wait already are let go when nobody has to any more.
func (n *node) arm(life int) {
	p := &n.pg
	if p.life != life || !p.alive() {
		return
	}
	p.armed = p.loaded.K > 0
	n.c.checkRules()
	n.publish()
	if p.armed {
		return
	}
	waiting := p.waiting
	p.waiting = nil
	for _, w := range waiting {
		w.released()
	}
}

func (n *node) reloadDelay() time.Duration {
	if n.c.now < n.slowUntil {
		return n.c.between(0, 4*time.Second)
	}
	return n.c.between(0, 40*time.Millisecond)
}

// start starts the server. A primary has gone through recovery, with everything
// that was waiting before now visible, when it runs.
func (n *node) start() {
	p := &n.pg
	p.proc, p.clean, p.promoting, p.stopping, p.open = pgcluster.ProcessStarting, false, false, 0, 0
	p.life++
	p.started = n.c.now
	n.held = false
	p.loaded, p.locked = p.names, !p.standby
	p.armed = p.loaded.K > 0
	p.serving = false // until the slots are those of the epoch
	life := p.life
	n.c.logf("%s starts PostgreSQL at %s, standby %t", n.id, p.position(), p.standby)
	n.c.after(n.c.between(50*time.Millisecond, 600*time.Millisecond), func() {
		if p.life != life {
			return
		}
		if !p.standby && n.full() {
			n.end(pgcluster.ProcessCrashed)
			return
		}
		if !p.standby {
			p.proc = pgcluster.ProcessRunning
			n.c.checkRules()
			n.append(0) // the disk is the start's problem
			n.publish()
			return
		}
		n.answerWhenConsistent()
	})
	n.connectLater()
}

func (n *node) answerWhenConsistent() {
	if n.pg.proc == pgcluster.ProcessStarting && n.pg.standby && len(n.pg.wal) >= n.pg.consistent {
		n.pg.proc = pgcluster.ProcessRunning
		n.publish()
	}
}

// end ends the server. Peers learn of it if their network lets them.
func (n *node) end(proc pgcluster.Process) {
	p := &n.pg
	if p.alive() {
		n.c.logf("%s: PostgreSQL %s at %s", n.id, proc, p.position())
	}
	p.proc, p.promoting, p.stopping, p.open, p.waiting = proc, false, 0, 0, nil
	p.life++
	n.held = proc == pgcluster.ProcessCrashed && (n.held || n.alive())
	for _, l := range slices.Clone(p.senders) {
		l.loseSender()
	}
	if p.receiver != nil {
		p.receiver.loseReceiver()
	}
	n.publish()
}

// promote makes a standby a primary on the next timeline number that it knows of.
func (n *node) promote() {
	p := &n.pg
	p.promoting = true
	life := p.life
	d := n.c.between(20*time.Millisecond, 300*time.Millisecond)
	if n.hang {
		n.hang = false
		d = n.c.between(10*time.Second, 30*time.Second)
		n.c.logf("%s: promotion hangs", n.id)
	}
	n.c.after(d, func() {
		if p.life != life || !p.standby || !p.promoting {
			return
		}
		if n.full() {
			n.end(pgcluster.ProcessCrashed)
			return
		}
		if n.takesNoWAL() {
			n.promote()
			return
		}
		if p.receiver != nil {
			p.receiver.loseReceiver()
		}
		p.key, p.upstream, p.promoting, p.standby = false, "", false, false
		p.newest = max(p.newest, p.position().Timeline) + 1
		p.lineage = append(slices.Clone(p.lineage), pgcluster.Switch{Parent: p.position().Timeline, At: p.end(), Child: p.newest})
		n.c.logf("%s is promoted to timeline %d at %s", n.id, p.newest, p.end())
		for _, l := range p.senders {
			n.c.checkPrefix(l)
		}
		n.append(0)
		n.publish()
	})
}
