package failovertest

import (
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// ills are ways of a host to be neither well nor dead; each ends at its time.
type ills struct {
	suspended time.Duration // nothing on the host runs
	stopped   time.Duration // PostgreSQL answers nothing and sends nothing
	refusing  time.Duration // its postmaster is stopped: who is connected goes on
	stuck     time.Duration // its disk takes no WAL
	filled    time.Duration // its disk is full: PostgreSQL panics when it writes WAL

	since time.Duration // when the last of these began
}

// clock is n's own, which runs a little faster or slower than the others'.
func (n *node) clock() time.Duration { return n.c.now + time.Duration(float64(n.c.now)*n.drift) }

func (n *node) suspended() bool { return n.c.now < n.ills.suspended }

// silent reports whether PostgreSQL does nothing at all.
func (n *node) silent() bool { return n.suspended() || n.c.now < n.ills.stopped }

// refuses reports whether PostgreSQL lets nobody connect.
func (n *node) refuses() bool { return n.silent() || n.c.now < n.ills.refusing }

// takesNoWAL reports whether nothing can be flushed.
func (n *node) takesNoWAL() bool { return n.silent() || n.c.now < n.ills.stuck }

// full reports whether PostgreSQL dies of the next WAL that it writes.
func (n *node) full() bool { return n.c.now < n.ills.filled }

// awake is what a loop of xpd's asks first: whether anything on the host runs.
func (n *node) awake() bool { return n.up && !n.suspended() }

func (n *node) fallIll() {
	d := n.c.between(500*time.Millisecond, 12*time.Second)
	n.ills.since = n.c.now
	what := "host is suspended"
	switch n.c.rng.IntN(5) {
	case 0:
		n.ills.suspended = n.c.now + d
		n.c.after(d, n.wake)
	case 1:
		what = "PostgreSQL is stopped by a signal"
		n.ills.stopped = n.c.now + d
	case 2:
		what = "the postmaster is stopped by a signal"
		n.ills.refusing = n.c.now + d
	case 3:
		what = "the disk takes no WAL"
		n.ills.stuck = n.c.now + d
	case 4:
		what = "the disk is full"
		n.ills.filled = n.c.now + d
		if !n.pg.standby {
			n.killPostgres()
		}
	}
	n.c.logf("%s: %s for %s", n.id, what, d.Round(time.Millisecond))
}

// wake is what an observer does that finds its clock has jumped: what it slept
// through is no silence of others.
func (n *node) wake() {
	if n.alive() && !n.suspended() {
		n.view.Since = n.clock()
		n.view.Reports = map[pgcluster.NodeID]failover.Observation{}
	}
}

// recover ends all ills.
func (n *node) recover() {
	if n.suspended() {
		n.ills.suspended = n.c.now
		n.wake()
	}
	n.ills = ills{}
}

// evidence is what the agent finds out about its PostgreSQL.
func (n *node) evidence(r *pgcluster.Report) {
	if !n.pg.running() {
		return
	}
	ago := n.c.now - n.ills.since
	if n.silent() {
		r.AnsweredAgo = ago
	}
	if n.refuses() {
		r.ConnectStalled = ago
	}
	if n.takesNoWAL() {
		r.WriteStalled = ago
	}
}

// address is the member that n would be.
func (n *node) address() pgcluster.Member {
	return pgcluster.Member{ID: n.id, Host: string(n.id), HTTPPort: 1, RaftPort: 2, PGPort: 3}
}

// addHost adds a host that is no member, and has no vote in Raft.
func (c *cluster) addHost() *node {
	n := c.newNode(len(c.nodes))
	c.nodes = append(c.nodes, n)
	for i := range c.cut {
		c.cut[i] = append(c.cut[i], 0)
		c.nodes[i].sessions = append(c.nodes[i].sessions, nil)
	}
	c.cut = append(c.cut, make([]int, len(c.nodes)))
	n.sessions = make([]*session, len(c.nodes))
	return n
}
