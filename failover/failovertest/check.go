package failovertest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// acknowledged remembers a commit and looks for two histories.
func (c *cluster) acknowledged(n *node, epoch uint64, r *record) {
	if epoch < c.forgiven {
		return
	}
	if other, ok := c.byLSN[r.lsn]; ok && other != r {
		c.fail("diverged: %s acknowledged commit %d at %s in epoch %d, where %s had acknowledged commit %d in epoch %d",
			n.id, r.commit, r.lsn, epoch, other.node, other.commit, other.epoch)
	}
	for e, o := range c.opened {
		if e > epoch && (r.lsn > pgcluster.LSN(len(o.wal)) || o.wal[r.lsn-1] != r) {
			c.fail("lost: %s acknowledged commit %d at %s in epoch %d, which %s did not have when it opened epoch %d",
				n.id, r.commit, r.lsn, epoch, o.node.id, e)
		}
	}
	c.byLSN[r.lsn] = r
	r.acked = true
	c.acked = append(c.acked, r)
	if !floored(c.raft.state, r) {
		c.checkHeldOne("acknowledged", c.raft.state, r)
	}
}

// floored reports whether an operation has made sure of r: it has chosen somebody, and
// nobody is promoted any more who is below the floor. An old primary may still hear of
// what a member had flushed before it pledged, and that member be cloned by now.
func floored(s failover.State, r *record) bool {
	op := s.Op
	return op != nil && (op.To != "" || len(op.Tried) > 0) && r.lsn <= s.Floor.LSN
}

// checkAcked holds the WAL of n to everything that was acknowledged.
func (c *cluster) checkAcked(when string, n *node) {
	if n == nil {
		return
	}
	for _, r := range c.acked {
		if !n.pg.has(r) {
			c.fail("lost: %s, %s (WAL to %s) has not commit %d that %s acknowledged at %d:%s in epoch %d",
				when, n.id, n.pg.position(), r.commit, r.node, r.timeline, r.lsn, r.epoch)
			return
		}
	}
}

// saved checks a state that Raft agreed on, and lets faults aim at it.
func (c *cluster) saved(prev, next failover.State) {
	c.forgive(prev, next)
	if next.Primary.Epoch < prev.Primary.Epoch || (next.Op != nil && next.Op.Epoch <= next.Primary.Epoch) {
		c.fail("I1: from epoch %d to %d, operation %+v", prev.Primary.Epoch, next.Primary.Epoch, next.Op)
	}
	if prev.Op != nil && next.Op != nil && prev.Op.ID == next.Op.ID && next.Op.Epoch < prev.Op.Epoch {
		c.fail("I1: operation went back from epoch %d to %d", prev.Op.Epoch, next.Op.Epoch)
	}
	if len(next.Epochs) > 0 && next.Sync.Durable.K == 0 && prev.Sync.Durable.K > 0 && next.Settings.Mode != failover.ModeAvailable && (prev.Op == nil || prev.Op.Forced == nil) {
		c.fail("I5: k becomes 0, and the mode does not allow it")
	}
	if next.Op != nil && next.Op.Phase == failover.PhasePromote && !chosen(prev, next.Op) {
		c.checkChoice(prev, c.nodeOf(next.Op.To), next.Op.Epoch)
		c.checkWanted(next)
	}
	if next.Primary.Epoch > prev.Primary.Epoch {
		c.openedNow(prev, next)
	} else if !next.Sync.Durable.Equal(prev.Sync.Durable) {
		c.checkHeld("after a change of the sync set", next)
	}
	c.count(prev, next)
	c.checkRules()
	c.aim(prev, next)
}

// count notes what a history came by, for a run that would otherwise prove little.
func (c *cluster) count(prev, next failover.State) {
	if next.Op != nil && prev.Op != nil && next.Op.Epoch > prev.Op.Epoch {
		c.result.Retries++
	}
	if prev.Sync.Pending != nil && next.Sync.Pending == nil && next.Op == nil {
		if next.Sync.Durable.K > prev.Sync.Durable.K {
			c.result.Raises++
		} else {
			c.result.Shrinks++
		}
	}
	if p := c.nodeOf(next.Primary.Node); p != nil && next.Primary.Access == failover.AccessOpen && p.leads(next) && !p.pg.armed {
		c.result.Alone++
	}
}

func chosen(s failover.State, op *failover.Operation) bool {
	return s.Op != nil && s.Op.Epoch == op.Epoch && s.Op.To == op.To && s.Op.Phase == failover.PhasePromote
}

func (c *cluster) checkChoice(prev failover.State, to *node, epoch uint64) {
	c.checkAcked(fmt.Sprintf("chosen for epoch %d", epoch), to)
	if o := c.opened[prev.Primary.Epoch]; o != nil && to.pg.end() < prev.Floor.LSN && len(prev.Op.Tried) == 0 && epoch != c.forgiven {
		c.fail("I6: %s is chosen at %s, below the floor %s", to.id, to.pg.position(), prev.Floor)
	}
}

func (c *cluster) openedNow(prev, next failover.State) {
	n := c.nodeOf(next.Primary.Node)
	c.opened[next.Primary.Epoch] = &opening{node: n, wal: n.pg.wal}
	if prev.Op != nil {
		c.result.Operations[prev.Op.Kind]++
	}
	c.checkAcked(fmt.Sprintf("opening epoch %d", next.Primary.Epoch), n)
	c.checkHeld(fmt.Sprintf("opening epoch %d", next.Primary.Epoch), next)
}

// checkHeld looks past luck: whichever quorum a failover recruits from now on has
// every acknowledged commit only if K members of the recorded set have it.
func (c *cluster) checkHeld(when string, s failover.State) {
	for _, r := range c.acked {
		if !c.checkHeldOne(when, s, r) {
			return
		}
	}
}

func (c *cluster) checkHeldOne(when string, s failover.State, r *record) bool {
	held := 0
	for _, id := range s.Sync.Durable.Members {
		if c.nodeOf(id).pg.has(r) {
			held++
		}
	}
	if held < s.Sync.Durable.K {
		c.fail("lost: %s, only %d of %s have commit %d that %s acknowledged at %s", when, held, s.Sync.Durable, r.commit, r.node, r.lsn)
	}
	return held >= s.Sync.Durable.K
}

// checkOpen is I2, when an agent lets clients in.
func (c *cluster) checkOpen(n *node, epoch uint64) {
	if o := c.opened[epoch]; o == nil || o.node != n {
		c.fail("I2: %s lets clients in for epoch %d, which it does not hold", n.id, epoch)
	}
}

// checkRules is I3: whoever acknowledges on the open primary is met by whoever a
// failover recruits. PostgreSQL counts the senders that gave themselves a
// priority, whichever rule they loaded it from, and each asks the k of its own. An
// operation closes the primary to new sessions only, so it is held to this until the
// next one opens.
func (c *cluster) checkRules() {
	s := c.raft.state
	n := c.nodeOf(s.Primary.Node)
	if n == nil || !n.leads(s) {
		return
	}
	p := &n.pg
	if !p.armed {
		c.checkRule(n, "in force", pgcluster.SyncSet{})
		return
	}
	c.checkRule(n, "in force", p.loaded)
	counting := pgcluster.SyncSet{K: p.loaded.K}
	for _, l := range p.senders {
		if l.rule.Has(l.down.id) && l.rule.K > 0 {
			counting = counting.With(l.down.id)
			counting.K = min(max(counting.K, 1), l.rule.K)
		}
	}
	if len(counting.Members) > 0 {
		c.checkRule(n, "that walsenders apply", counting)
	}
}

// leads reports whether n runs as the primary of the last epoch that was opened.
func (n *node) leads(s failover.State) bool {
	return n.led == s.Primary.Epoch && n.pg.running() && !n.pg.standby
}

// checkRule demands that any quorum meets any K; and K = 0, an acknowledgement by the
// primary alone, only while no quorum but the primary itself is recorded (I5).
func (c *cluster) checkRule(n *node, what string, in pgcluster.SyncSet) {
	durable := c.raft.state.Sync.Durable
	if durable.K == 0 {
		return
	}
	union := durable
	for _, id := range in.Members {
		union = union.With(id)
	}
	if in.K+durable.Quorum() <= len(union.Members) || (!durable.Contains(in) && !in.Contains(durable)) {
		c.fail("I3: %s has %s %s while failovers recruit %d of %s", n.id, in, what, durable.Quorum(), durable)
	}
}

// checkPledge is I4: who said that it is detached for an epoch gets no WAL from a
// primary of one before.
func (c *cluster) checkPledge(l *link, b batch) {
	if !b.cascaded && b.epoch < l.down.detached {
		c.fail("I4: %s streams from %s of epoch %d though detached for %d", l.down.id, l.up.id, b.epoch, l.down.detached)
	}
}

// checkPrefix sees what PostgreSQL cannot: WAL that only looks the same.
func (c *cluster) checkPrefix(l *link) {
	if l.up.pg.standby || l.down.followed != l.up.led {
		return // not what it was told to do: it will be told again
	}
	for i, r := range l.down.pg.wal[:min(len(l.down.pg.wal), len(l.up.pg.wal))] {
		if l.up.pg.wal[i] != r {
			c.fail("diverged: %s streams from %s at %s, but they differ from record %d on (%s of epoch %d, %s of epoch %d)",
				l.down.id, l.up.id, l.down.pg.position(), i+1, r.node, r.epoch, l.up.pg.wal[i].node, l.up.pg.wal[i].epoch)
			return
		}
	}
}

// whole reports whether a healed cluster serves, with everybody back in place.
func (c *cluster) whole() bool { return c.calm && c.why() == "" }

func (c *cluster) why() string {
	s := c.raft.state
	p := c.nodeOf(s.Primary.Node)
	switch {
	case s.Op != nil || p == nil || s.Primary.Access != failover.AccessOpen:
		return describe(s)
	case p.pg.open != s.Primary.Epoch:
		return fmt.Sprintf("%s is not open", p.id)
	case len(c.acked) < c.healed+10:
		return "nothing is acknowledged"
	case s.Sync.Pending != nil || s.Sync.Durable.K != s.K() || !c.complete(s):
		return fmt.Sprintf("sync set is %d of %v, pending %v, want k = %d", s.Sync.Durable.K, s.Sync.Durable.Members, s.Sync.Pending, s.K())
	case c.unserved(s) != "":
		return string(c.unserved(s)) + " receives nothing from the primary"
	case len(s.Absent) > 0:
		return fmt.Sprintf("nodes are left out: %v", s.Absent)
	case slices.ContainsFunc(s.Members, func(m pgcluster.Member) bool { return m.Leaving }):
		return "a member has not left"
	}
	return ""
}

// unserved returns a member that should receive from the primary and does not.
func (c *cluster) unserved(s failover.State) pgcluster.NodeID {
	for _, m := range s.Members {
		n := c.nodeOf(m.ID)
		if m.ID == s.Primary.Node || !m.Data() || m.Leaving || !n.alive() {
			continue
		}
		if l := n.pg.receiver; l == nil || l.senderGone || l.up.id != s.Primary.Node || n.followed != s.Primary.Epoch {
			return m.ID
		}
	}
	return ""
}

// complete reports whether everybody is in the sync set who may be, but of the primary's
// own zone fewer than k, if others suffice. If commits wait for nobody, it does not
// matter who of that zone has stayed from before.
func (c *cluster) complete(s failover.State) bool {
	p, _ := s.Member(s.Primary.Node)
	near, far := 0, 0
	for _, m := range s.Members {
		switch {
		case m.ID == p.ID || m.Witness || m.NoSync || m.Leaving:
		case m.Zone != "" && m.Zone == p.Zone:
			near++
		default:
			far++
		}
	}
	size, k := len(s.Sync.Durable.Members), s.K()
	switch {
	case k == 0:
		return far <= size && size <= near+far
	case far < k:
		return size == near+far
	default:
		return size == far+min(near, k-1)
	}
}

// describe is a state in one line of the trace.
func describe(s failover.State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s e%d %s sync=%s floor=%s", s.Primary.Node, s.Primary.Epoch, s.Primary.Access, s.Sync.Durable, s.Floor)
	if s.Sync.Pending != nil {
		fmt.Fprintf(&b, " pending=%s mark=%s", s.Sync.Pending, s.Sync.Mark)
	}
	if op := s.Op; op != nil {
		fmt.Fprintf(&b, " | %s %d e%d %s from=%s to=%s in_place=%t sync=%s tried=%v: %s",
			op.Kind, op.ID, op.Epoch, op.Phase, op.From, op.To, op.InPlace, op.Sync, slices.Clone(op.Tried), op.Reason)
	}
	return b.String()
}
