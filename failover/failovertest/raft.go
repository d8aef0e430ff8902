package failovertest

import (
	"reflect"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// register is what Raft agreed on, as nobody in the cluster sees it directly.
type register struct {
	index, term uint64
	settled     uint64 // last term whose leader's barrier was agreed
	state       failover.State
	leader      int              // -1: none
	life        int              // of the leader's xpd, when it was elected
	past        []failover.State // by index
}

// canLead reports whether n reaches a majority.
func (c *cluster) canLead(n *node) bool {
	reached, voters := 0, 0
	for _, o := range c.nodes {
		if !o.voter {
			continue
		}
		voters++
		if o == n || (o.alive() && o.awake() && c.talk(n, o)) {
			reached++
		}
	}
	return n.voter && n.alive() && n.awake() && reached > voters/2
}

// elections replaces a leader that has lost its majority, after a while.
func (c *cluster) elections() {
	if c.raft.leader >= 0 {
		if n := c.nodes[c.raft.leader]; n.life == c.raft.life && c.canLead(n) {
			return
		}
	}
	if c.chance(3) {
		c.elect()
	}
}

// elect makes somebody leader. The one before believes in itself for a while.
func (c *cluster) elect() {
	n := c.any()
	if !c.canLead(n) {
		return
	}
	if c.raft.leader >= 0 {
		old, life := c.nodes[c.raft.leader], c.nodes[c.raft.leader].life
		term := old.leading
		c.after(c.between(0, 1500*time.Millisecond), func() {
			if old.life == life && old.leading == term {
				old.leading = 0
			}
		})
	}
	c.raft.term++
	c.raft.leader, c.raft.life = n.i, n.life
	term, life := c.raft.term, n.life
	c.logf("%s leads term %d", n.id, term)
	c.after(c.between(5*time.Millisecond, 60*time.Millisecond), func() { n.barrierRaft(term, life) })
}

// barrierRaft lets n lead once it has seen everything that was agreed before.
func (n *node) barrierRaft(term uint64, life int) {
	switch {
	case n.c.raft.term != term || n.life != life:
	case !n.c.canLead(n):
		n.c.after(100*time.Millisecond, func() { n.barrierRaft(term, life) })
	default:
		n.leading, n.saving, n.c.raft.settled = term, false, term
		n.apply()
	}
}

// apply brings a replica up to date.
func (n *node) apply() {
	old := n.replica.Primary
	n.replica, n.index = n.c.raft.state, n.c.raft.index
	n.retarget(old, n.replica.Primary)
	n.trackPhase()
	n.trackFailovers(old)
}

// trackFailovers remembers when this node saw failovers open a primary.
func (n *node) trackFailovers(old failover.Primary) {
	h := n.replica.History
	if n.replica.Primary.Epoch <= old.Epoch || len(h) == 0 || h[len(h)-1].Kind != string(failover.KindFailover) {
		return
	}
	n.view.Opened = append(slices.Clone(n.view.Opened), n.clock())
	if over := len(n.view.Opened) - 30; over > 0 {
		n.view.Opened = n.view.Opened[over:]
	}
}

func (n *node) trackPhase() {
	var key phaseKey
	if op := n.replica.Op; op != nil {
		key = phaseKey{op.ID, op.Epoch, op.Phase, op.To}
	}
	if key != n.phase {
		n.phase, n.view.PhaseSince = key, n.clock()
	}
}

// hear applies what the leader has, unless n is far behind. A leader never is: its
// barrier saw to that.
func (n *node) hear(leader *node) {
	if n.alive() && n.awake() && n.c.talk(leader, n) && (n.c.now >= n.behind || n.leading != 0) {
		n.apply()
	}
}

// restore is what a restarted node knows until it hears from a leader: its last
// snapshot.
func (n *node) restore() {
	if back := n.c.rng.Uint64N(8); n.c.chance(3) && back < n.index {
		n.index -= back
	}
	n.replica = n.c.raft.state
	if n.index < uint64(len(n.c.raft.past)) {
		n.replica = n.c.raft.past[n.index]
	}
	n.retarget(failover.Primary{}, n.replica.Primary)
}

// catchUp is Raft's replication to a follower that missed something.
func (n *node) catchUp() {
	if n.c.raft.leader >= 0 {
		n.hear(n.c.nodes[n.c.raft.leader])
	}
}

// tick is one round of the controller on a node that believes to lead.
func (n *node) tick() {
	if !n.alive() || !n.awake() || n.leading == 0 || n.saving {
		return
	}
	n.look()
	next, orders := failover.Step(n.replica, n.view, n.c.policy)
	n.c.checkLeftAlone(next, orders)
	if unchanged(n.replica, next) {
		n.send(orders, pgcluster.Stamp{Term: n.leading, Index: n.index})
		return
	}
	n.save(next, orders)
}

// look brings the view up to this moment, by clocks that need not agree.
func (n *node) look() {
	n.view.Now = n.clock()
	n.view.Wall = time.Unix(0, 0).Add(n.clock() + n.wallOff)
}

// unchanged compares two states. What only grows is compared by its length.
func unchanged(a, b failover.State) bool {
	if len(a.History) != len(b.History) || len(a.Epochs) != len(b.Epochs) {
		return false
	}
	a.History, b.History, a.Epochs, b.Epochs = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// save is a compare-and-set; orders go out only after it succeeded.
func (n *node) save(next failover.State, orders []pgcluster.Order) {
	n.saving = true
	base, term, life := n.index, n.leading, n.life
	n.c.after(n.c.between(2*time.Millisecond, 30*time.Millisecond), func() {
		if n.life == life {
			n.saving = false
		}
		if n.life != life || n.leading != term || !n.holds(term) {
			n.orphan(base, term, next)
			return
		}
		if n.c.raft.index != base {
			n.apply()
			return
		}
		n.c.commitState(n, next)
		n.apply()
		if !n.c.calm && n.c.chance(200) {
			n.c.loseXpd(n) // saved, and nobody was told
			return
		}
		n.send(orders, pgcluster.Stamp{Term: term, Index: n.index})
		n.c.after(time.Millisecond, n.tick)
	})
}

// holds reports whether n, which believes to lead term, does.
func (n *node) holds(term uint64) bool {
	r := &n.c.raft
	return n.awake() && r.leader == n.i && r.life == n.life && r.term == term && n.c.canLead(n)
}

// orphan is an entry whose leader never learns what became of it. It may be on a majority
// by then; if so, it is agreed at the latest when the next leader's barrier is.
func (n *node) orphan(base, term uint64, next failover.State) {
	c := n.c
	if c.chance(2) {
		return
	}
	c.after(c.between(0, time.Second), func() {
		if c.raft.index != base || c.raft.settled > term {
			return
		}
		c.result.Orphans++
		c.commitState(n, next)
	})
}

// commitState makes next what was agreed. Who can be told by the leader of now hears of it.
func (c *cluster) commitState(by *node, next failover.State) {
	prev := c.raft.state
	c.raft.past = append(c.raft.past, prev)
	c.raft.index++
	c.raft.state = next
	c.logf("%s saves %d: %s", by.id, c.raft.index, describe(next))
	c.saved(prev, next)
	leader := c.nodes[c.raft.leader]
	for _, o := range c.nodes {
		c.after(c.between(time.Millisecond, 40*time.Millisecond), func() {
			o.hear(leader)
		})
	}
}

// send gives orders to the network.
func (n *node) send(orders []pgcluster.Order, s pgcluster.Stamp) {
	for _, o := range orders {
		s.Epoch = o.Stamp.Epoch
		o.Stamp = s
		n.sendOne(o, n.c.between(time.Millisecond, 20*time.Millisecond))
		if n.c.chance(25) {
			n.sendOne(o, n.c.between(0, 3*time.Second)) // late, or twice
		}
	}
}

func (n *node) sendOne(o pgcluster.Order, d time.Duration) {
	to, life, leaves := n.c.nodeOf(o.Node), n.life, n.c.now+n.c.between(0, min(d, 10*time.Millisecond))
	n.c.after(d, func() {
		if (n.life != life && n.died < leaves) || (to != n && n.c.drops()) {
			return
		}
		if to == n || n.c.reach(n, to) {
			to.accept(o)
		}
	})
}
