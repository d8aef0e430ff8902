package failovertest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Options choose one history.
type Options struct {
	Seed  uint64
	Nodes int
	Trace io.Writer // if set, gets a line for everything that happens
}

// Result counts what a history went through, so that a test can tell that the
// faults were not in vain.
type Result struct {
	Forced     int    // failovers that people accepted data loss for
	Lost       int    // commits that they gave up by it
	Acked      int    // commits acknowledged to clients
	Shown      int    // of these, to readers only
	Epochs     uint64 // of the last primary
	Retries    int    // chosen nodes that were given up
	Shrinks    int
	Raises     int
	Changes    int // that people asked for, and could have
	Orphans    int // states that were agreed on without their leader's knowledge
	Alone      int // epochs that were open, for a time, with no standby to wait for
	Virtual    time.Duration
	Operations map[failover.Kind]int // that opened a primary
}

// How long faults go on, and how long a healed cluster may take to be whole.
const (
	faultTime = 25 * time.Second
	healTime  = 150 * time.Second
)

// mostDrift is how far a clock that is no worse than most runs from true time, as a
// share of it.
const mostDrift = 1e-3

// Run plays one history and returns the first broken promise as an error.
func Run(o Options) (Result, error) {
	c := newCluster(o)
	c.bootstrap()
	c.every(30*time.Millisecond, 90*time.Millisecond, c.write)
	c.after(3*time.Second, c.nextFault)
	c.runUntil(faultTime, func() bool { return false })
	c.heal()
	c.runUntil(faultTime+healTime, c.whole)
	if c.err == nil && !c.whole() {
		c.fail("stuck: not whole %s after the last fault: %s", healTime, c.why())
	}
	c.checkAcked("at the end", c.nodeOf(c.raft.state.Primary.Node))
	c.result.Acked = len(c.acked)
	c.result.Epochs = c.raft.state.Primary.Epoch
	c.result.Virtual = c.now
	return c.result, c.err
}

// cluster is one history under way.
type cluster struct {
	rng    *rand.Rand
	now    time.Duration
	queue  queue
	events uint64
	trace  io.Writer
	err    error
	result Result

	policy failover.Policy
	nodes  []*node
	cut    [][]int // cut[a][b] > 0: nothing gets from a to b
	raft   register
	calm   bool          // no more faults
	lossy  time.Duration // until then, messages get lost

	commits  uint64
	acked    []*record
	byLSN    map[pgcluster.LSN]*record // acknowledged, to see two histories
	opened   map[uint64]*opening
	healed   int // len(acked) when the faults ended
	inits    int
	forgiven uint64 // what is acknowledged in epochs before may be lost: people said so

	// Settings that wait for a restart of who was started before they changed.
	higher, lower bool
	changed       time.Duration
}

// opening is what a primary had when clients were let in.
type opening struct {
	node *node
	wal  []*record
}

func newCluster(o Options) *cluster {
	c := &cluster{
		rng:    rand.New(rand.NewPCG(o.Seed, 0)),
		trace:  o.Trace,
		policy: failover.DefaultPolicy(),
		byLSN:  map[pgcluster.LSN]*record{},
		opened: map[uint64]*opening{},
		result: Result{Operations: make(map[failover.Kind]int)},
	}
	c.policy.MaxGap = 40
	for i := range o.Nodes {
		n := c.newNode(i)
		n.voter = true
		n.sessions = make([]*session, o.Nodes)
		c.nodes = append(c.nodes, n)
		c.cut = append(c.cut, make([]int, o.Nodes))
		c.raft.state.Members = append(c.raft.state.Members, n.address())
	}
	c.roles()
	return c
}

func (c *cluster) newNode(i int) *node {
	n := &node{c: c, i: i, id: pgcluster.NodeID(fmt.Sprintf("n%d", i+1)), up: true, xpd: true}
	n.view = failover.View{
		Reports:  map[pgcluster.NodeID]failover.Observation{},
		Streamed: map[pgcluster.NodeID]time.Duration{},
	}
	n.drift = (c.rng.Float64()*2 - 1) * mostDrift
	if c.chance(8) {
		n.drift *= 50
	}
	n.pg.proc = pgcluster.ProcessStopped
	return n
}

// bootstrap starts the loops of every node.
func (c *cluster) bootstrap() {
	c.raft.leader = -1
	for _, n := range c.nodes {
		n.replica, n.index = c.raft.state, 0
		c.every(40*time.Millisecond, 120*time.Millisecond, n.act)
		c.every(100*time.Millisecond, 250*time.Millisecond, n.publish)
		c.every(90*time.Millisecond, 110*time.Millisecond, n.tick)
		c.every(300*time.Millisecond, 600*time.Millisecond, n.heartbeat)
		c.every(100*time.Millisecond, 300*time.Millisecond, n.catchUp)
		c.every(250*time.Millisecond, time.Second, n.tend)
	}
	c.every(200*time.Millisecond, 400*time.Millisecond, c.elections)
	c.elect()
	c.impatient()
}

func (c *cluster) nodeOf(id pgcluster.NodeID) *node {
	for _, n := range c.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// reach reports whether a message gets from a to b now.
func (c *cluster) reach(a, b *node) bool { return a.up && b.up && c.cut[a.i][b.i] == 0 }

// talk reports whether a connection between a and b can be made.
func (c *cluster) talk(a, b *node) bool { return c.reach(a, b) && c.reach(b, a) }

// drops reports whether the network loses a message.
func (c *cluster) drops() bool { return c.now < c.lossy && c.chance(10) }

func (c *cluster) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(c.rng.Int64N(int64(hi-lo)+1))
}

// chance is true once in n.
func (c *cluster) chance(n int) bool { return c.rng.IntN(n) == 0 }

func (c *cluster) any() *node { return c.nodes[c.rng.IntN(len(c.nodes))] }

func (c *cluster) after(d time.Duration, f func()) {
	c.events++
	c.queue.push(event{at: c.now + d, seq: c.events, run: f})
}

func (c *cluster) every(lo, hi time.Duration, f func()) {
	var again func()
	again = func() {
		f()
		c.after(c.between(lo, hi), again)
	}
	c.after(c.between(0, hi), again)
}

// runUntil runs events up to a time, or until done, which is asked now and then.
func (c *cluster) runUntil(end time.Duration, done func() bool) {
	asked := c.now
	for c.err == nil && len(c.queue) > 0 && c.queue[0].at <= end {
		e := c.queue.pop()
		c.now = e.at
		e.run()
		if c.now-asked >= 500*time.Millisecond {
			asked = c.now
			if done() {
				return
			}
		}
	}
}

func (c *cluster) logf(format string, args ...any) {
	if c.trace != nil {
		fmt.Fprintf(c.trace, "%9.3fs  %s\n", c.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// fail keeps the first failure; the history ends with it.
func (c *cluster) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("at %.3fs: %s", c.now.Seconds(), fmt.Sprintf(format, args...))
		c.logf("FAILED: %v", c.err)
	}
}
