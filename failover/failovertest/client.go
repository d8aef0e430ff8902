package failovertest

import (
	"slices"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// session is a pool's connection to a PostgreSQL. It lives as long as the server,
// through a promotion too.
type session struct {
	life     int                // of the server
	timeline pgcluster.Timeline // of its server as a primary; 0 before it was asked
	cut      bool               // its pool went on to another target
}

// serves is what the pool asks of a session's server p: see the method of that name
// there.
func (s *session) serves(st failover.State, p *postgres) bool {
	if s.timeline == 0 && !p.standby {
		s.timeline = p.lineage.Current()
	}
	return s.timeline == st.Lineage.Current()
}

// write is one client: it asks some node who is open, however old its answer, and reads
// and writes there over that node's pool. PostgreSQL itself does not refuse: the pool's
// sessions may write as soon as it is a primary.
func (c *cluster) write() {
	from := c.any()
	st := from.replica
	if !from.alive() || !from.awake() || st.Primary.Access != failover.AccessOpen {
		return
	}
	n := c.nodeOf(st.Primary.Node)
	if n != from && !c.talk(from, n) {
		return
	}
	s := from.session(n)
	if s == nil {
		return
	}
	p := &n.pg
	if !s.serves(st, p) {
		return
	}
	if p.standby || p.stopping > 0 || n.takesNoWAL() {
		return
	}
	c.commits++
	epoch, life, lsn, seen := n.led, p.life, p.end()+1, p.visible()
	n.commit(c.commits, func() {
		if p.life != life || s.cut {
			return
		}
		for _, r := range seen {
			if !r.acked {
				c.result.Shown++
				c.acknowledged(n, epoch, r)
			}
		}
		c.acknowledged(n, epoch, p.wal[lsn-1])
	})
}

// visible are the last rows that a query shows and that no client was promised yet. Their
// commits wait no longer: the server died, or the wait was cancelled. What a reader saw
// counts once a commit that it made afterwards is acknowledged.
func (p *postgres) visible() []*record {
	var rows []*record
	for _, r := range p.wal[max(0, len(p.wal)-30):] {
		if r.commit != 0 && !r.acked && !slices.ContainsFunc(p.waiting, func(w waiter) bool { return w.lsn == r.lsn }) {
			rows = append(rows, r)
		}
	}
	return rows
}

// session returns the live session of n's pool to a node, or a new one, or nil.
func (n *node) session(to *node) *session {
	s := n.sessions[to.i]
	if s != nil && s.life == to.pg.life {
		return s
	}
	n.sessions[to.i] = nil
	p := &to.pg
	if (n != to && !n.c.talk(n, to)) || to.refuses() || !p.running() || p.stopping > 0 || p.locked {
		return nil
	}
	s = &session{life: p.life}
	n.sessions[to.i] = s
	return s
}

// tend keeps the pool's sessions warm, to standbys too, and ends one now and then.
func (n *node) tend() {
	for _, to := range n.c.nodes {
		if !n.alive() || !n.awake() {
			continue
		}
		if n.c.chance(20) {
			n.sessions[to.i] = nil
		}
		n.session(to)
	}
}

// retarget points the pool to the primary of the state that n has applied.
func (n *node) retarget(old, now failover.Primary) {
	if was := n.c.nodeOf(old.Node); was != nil && (old.Node != now.Node || old.Epoch != now.Epoch) {
		if s := n.sessions[was.i]; s != nil {
			s.cut = true
			n.sessions[was.i] = nil
		}
	}
}

// forgetPool is the end of n's pool: what its clients wait for, they never hear.
func (n *node) forgetPool() {
	for i, s := range n.sessions {
		if s != nil {
			s.cut = true
		}
		n.sessions[i] = nil
	}
}

// lag is how much longer WAL and the answers to it take on the way to n.
func (n *node) lag() time.Duration {
	if n.c.now >= n.lagUntil {
		return 0
	}
	return n.c.between(0, n.lagMost)
}
