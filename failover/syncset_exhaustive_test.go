package failover_test

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

// TestSyncSet_exhaustive lets everything that can happen while the sync set changes
// happen in every order, and holds every state to
//
//   - I3, for the rule in the postmaster and for the one that the walsenders apply;
//   - every acknowledged commit is on K members of the recorded set, so that every
//     quorum has it;
//   - once a quorum has pledged, whichever it is, the node that Step chooses has
//     every commit that the old primary ever acknowledges.
//
// The decisions are those of Step, on reports of any age. Orders arrive late and out
// of order, or never. The end of a leader between two steps needs no move of its
// own: what it would have done next just does not happen.
func TestSyncSet_exhaustive(t *testing.T) {
	t.Parallel()
	all := func(n int) mask { return 1<<n - 1 }
	for _, s := range []scenario{
		// A standby is added, and may be removed, and taken back, and so on.
		{name: "grow", n: 2, k: 1, durable: all(1), flaky: all(2), changes: 3, commits: 2, leaders: 1},
		{name: "grow, four changes", n: 2, k: 1, durable: all(1), flaky: 2, changes: 4, commits: 2, leaders: 1},
		{name: "grow, two leaders", n: 2, k: 1, durable: all(1), flaky: 2, changes: 3, commits: 1, leaders: 2},
		{name: "grow", n: 3, k: 1, durable: all(2), flaky: 4, changes: 4, commits: 1, leaders: 1},
		{name: "grow", n: 3, k: 2, durable: all(2), flaky: 6, changes: 3, commits: 1, leaders: 1},
		{name: "grow", n: 4, k: 2, durable: all(3), flaky: 8, changes: 3, commits: 1, leaders: 1},
		{name: "grow", n: 5, k: 2, durable: all(4), flaky: 16, changes: 3, commits: 1, leaders: 1},
		{name: "grow", n: 5, k: 3, durable: all(4), flaky: 16, changes: 3, commits: 1, leaders: 1},
		// A standby is removed, and may come back at any moment of it.
		{name: "shrink", n: 2, k: 1, durable: all(2), flaky: all(2), changes: 3, commits: 2, leaders: 1},
		{name: "shrink, two leaders", n: 2, k: 1, durable: all(2), flaky: 2, changes: 3, commits: 1, leaders: 2},
		{name: "shrink", n: 3, k: 1, durable: all(3), flaky: 6, changes: 3, commits: 1, leaders: 1},
		{name: "shrink", n: 3, k: 2, durable: all(3), flaky: 6, changes: 3, commits: 1, leaders: 1},
		{name: "shrink", n: 4, k: 2, durable: all(4), flaky: 8, changes: 3, commits: 1, leaders: 1},
		{name: "shrink", n: 5, k: 2, durable: all(5), flaky: 16, changes: 3, commits: 1, leaders: 1},
		{name: "shrink", n: 5, k: 3, durable: all(5), flaky: 16, changes: 3, commits: 1, leaders: 1},
	} {
		t.Run(fmt.Sprintf("%s %d of %d", s.name, s.k, s.n), func(t *testing.T) {
			t.Parallel()
			s.search(t)
		})
	}
}

// scenario bounds a search.
type scenario struct {
	name    string
	n, k    int
	durable mask  // the recorded set at first
	flaky   mask  // members whose connection breaks and comes back
	changes uint8 // orders of a rule, at most
	commits uint8
	leaders int // views of different age that decisions rest on
}

// mask is a set of standbys by number.
type mask uint8

func (m mask) has(i int) bool { return m&(1<<i) != 0 }
func (m mask) len() int       { return bits.OnesCount8(uint8(m)) }

const (
	maxStandbys = 5
	maxRules    = 6
	firstLSN    = 1 // everybody has that
)

// world is everything that matters, small enough to keep millions.
type world struct {
	raft    agreed
	rules   [maxRules]mask // by number; those that can still arrive
	primary server
	m       [maxStandbys]member
	views   [2]seen
	failing bool // a failover has begun
}

// server is the primary's PostgreSQL and its agent.
type server struct {
	accepted uint8 // number of the last order
	aware    bool  // xpd was not restarted since
	file     mask  // the rule in the configuration
	loaded   mask  // by the postmaster
	end      uint8
	acked    uint8
}

// member is a standby and the walsender that serves it.
type member struct {
	streaming bool
	rule      mask // that the walsender has loaded
	flushed   uint8
	pledged   bool
}

// counts reports whether the walsender counts itself.
func (m member) counts(i int) bool { return m.streaming && m.rule.has(i) }

// visited is a world and how it came about.
type visited struct {
	world  world
	parent int
	move   string // a format of who
	who    any
}

// search visits every world that can be reached.
func (s scenario) search(t *testing.T) {
	t.Helper()
	x := &search{scenario: s, rules: newRules(s.n, s.k), known: map[world]struct{}{}}
	x.visit(s.begin(), 0, "begin", nil)
	for at := 0; at < len(x.worlds); at++ { //nolint:intrange // it grows on the way
		w := x.worlds[at].world
		if problem := x.broken(w); problem != "" {
			t.Fatalf("%s, after\n%s", problem, x.trace(at))
		}
		x.moves(w, func(next world, move string, who any) { x.visit(next, at, move, who) })
	}
	t.Logf("%d worlds", len(x.worlds))
	if !x.grown && s.durable.len() < s.n || !x.shrunk {
		t.Errorf("the set never grew (%t) or never shrank (%t)", x.grown, x.shrunk)
	}
}

type search struct {
	scenario
	rules  *rules
	known  map[world]struct{}
	worlds []visited

	grown, shrunk bool
}

func (s scenario) begin() world {
	var w world
	w.raft = agreed{durable: s.durable, seq: 1}
	w.rules[1] = s.durable
	w.primary = server{accepted: 1, aware: true, file: s.durable, loaded: s.durable, end: firstLSN, acked: firstLSN}
	for i := range s.n {
		w.m[i] = member{streaming: true, rule: s.durable, flushed: firstLSN}
	}
	return w
}

func (x *search) visit(w world, parent int, move string, who any) {
	w = x.canonical(w)
	if _, ok := x.known[w]; ok {
		return
	}
	x.known[w] = struct{}{}
	x.worlds = append(x.worlds, visited{w, parent, move, who})
}

// canonical makes worlds equal that differ by nothing that can matter any more, or
// by which of the standbys that are always there and always members is which.
func (x *search) canonical(w world) world {
	for seq := range w.primary.accepted {
		w.rules[seq] = 0
	}
	if w.failing {
		w.views = [2]seen{}
	}
	steadfast := 0
	for steadfast < x.n && !x.flaky.has(steadfast) && x.durable.has(steadfast) {
		steadfast++
	}
	if steadfast < 2 {
		return w
	}
	type column struct {
		m     member
		views [2]seenMember
	}
	var columns [maxStandbys]column
	for i := range steadfast {
		columns[i] = column{w.m[i], [2]seenMember{w.views[0].m[i], w.views[1].m[i]}}
	}
	slices.SortFunc(columns[:steadfast], func(a, b column) int {
		return a.m.key() - b.m.key() + (a.views[0].key()-b.views[0].key())<<12 + (a.views[1].key()-b.views[1].key())<<18
	})
	for i := range steadfast {
		w.m[i], w.views[0].m[i], w.views[1].m[i] = columns[i].m, columns[i].views[0], columns[i].views[1]
	}
	return w
}

func (m member) key() int {
	k := int(m.rule)<<4 + int(m.flushed)<<2
	if m.streaming {
		k++
	}
	if m.pledged {
		k += 2
	}
	return k
}

// move is told what the world may become next, and by whose doing.
type move func(next world, what string, who any)

// moves calls to with everything that can happen next.
func (x *search) moves(w world, to move) {
	if !w.failing {
		x.leaderMoves(w, to)
	}
	x.primaryMoves(w, to)
	for i := range x.n {
		x.memberMoves(w, i, to)
	}
}

// leaderMoves: leaders look, and decide on what they saw; a failover begins.
func (x *search) leaderMoves(w world, to move) {
	for l := range x.leaders {
		next := w
		next.views[l] = x.look(w)
		to(next, "leader %d looks", l)
		if !w.views[l].taken {
			continue
		}
		if raft := x.rules.steady(w.raft, w.views[l]); raft != w.raft && raft.seq <= x.changes {
			next := w
			next.raft = raft
			x.grown = x.grown || raft.durable.len() > w.raft.durable.len()
			x.shrunk = x.shrunk || raft.durable.len() < w.raft.durable.len()
			next.rules[raft.seq] = raft.target()
			to(next, "leader saves %v", raft)
		}
	}
	next := w
	next.failing = true
	to(next, "a failover begins%v", "")
}

// primaryMoves: orders arrive, xpd restarts, the postmaster reloads, a client commits.
func (x *search) primaryMoves(w world, to move) {
	p := w.primary
	for seq := p.accepted; seq <= w.raft.seq; seq++ {
		if seq == p.accepted && p.aware {
			continue
		}
		next := w
		next.primary.accepted, next.primary.aware, next.primary.file = seq, true, w.rules[seq]
		to(next, "order %d arrives", seq)
	}
	if p.aware && !w.failing {
		next := w
		next.primary.aware = false
		to(next, "xpd of the primary restarts%v", "")
	}
	if p.loaded != p.file {
		next := w
		next.primary.loaded = p.file
		to(next, "the postmaster reloads%v", "")
	}
	if p.end < firstLSN+x.commits {
		next := w
		next.primary.end++
		to(next, "a client commits%v", "")
	}
}

// memberMoves: a walsender reloads, a standby flushes, breaks off, returns, pledges.
// Whatever changes who has flushed what releases the commits that waited for it.
func (x *search) memberMoves(w world, i int, to move) {
	m := w.m[i]
	next := w
	switch {
	case !m.streaming && !m.pledged && x.flaky.has(i):
		next.m[i].streaming, next.m[i].rule = true, w.primary.loaded
		to(x.release(next), "%c returns", rune('a'+i))
	case m.streaming && m.rule != w.primary.loaded:
		next.m[i].rule = w.primary.loaded
		to(x.release(next), "the walsender of %c reloads", rune('a'+i))
	}
	if m.streaming && m.flushed < w.primary.end {
		next := w
		next.m[i].flushed++
		to(x.release(next), "%c flushes", rune('a'+i))
	}
	if m.streaming && x.flaky.has(i) {
		next := w
		next.m[i].streaming, next.m[i].rule = false, 0
		to(next, "%c breaks off", rune('a'+i))
	}
	if w.failing && !m.pledged && w.raft.durable.has(i) && w.pledged().len() < x.quorum(w) {
		next := w
		next.m[i].streaming, next.m[i].rule, next.m[i].pledged = false, 0, true
		to(next, "%c pledges", rune('a'+i))
	}
}

// release acknowledges what K walsenders that count themselves have flushed.
func (x *search) release(w world) world {
	flushed := make([]uint8, 0, maxStandbys)
	for i, m := range w.m[:x.n] {
		if m.counts(i) {
			flushed = append(flushed, m.flushed)
		}
	}
	if len(flushed) >= x.k {
		slices.Sort(flushed)
		w.primary.acked = max(w.primary.acked, flushed[len(flushed)-x.k])
	}
	return w
}

func (w world) pledged() mask {
	var p mask
	for i, m := range w.m {
		if m.pledged {
			p |= 1 << i
		}
	}
	return p
}

// quorum is how many members a failover recruits, by the paper and not by the code.
func (x *search) quorum(w world) int { return w.raft.durable.len() - x.k + 1 }

// broken says which promise w breaks, or nothing.
func (x *search) broken(w world) string {
	if w.failing {
		return x.brokenFailover(w)
	}
	var counting mask
	for i, m := range w.m[:x.n] {
		if m.counts(i) {
			counting |= 1 << i
		}
	}
	for i, in := range []mask{w.primary.loaded, counting} {
		union := in | w.raft.durable
		if x.k+x.quorum(w) <= union.len() || (union != in && union != w.raft.durable) {
			what := []string{"in the postmaster", "that walsenders apply"}[i]
			return fmt.Sprintf("I3: %d of %s is the rule %s, while failovers recruit %d of %s", x.k, in, what, x.quorum(w), w.raft.durable)
		}
	}
	held := 0
	for i, m := range w.m[:x.n] {
		if w.raft.durable.has(i) && m.flushed >= w.primary.acked {
			held++
		}
	}
	if held < x.k {
		return fmt.Sprintf("lost: only %d of %s have commit %d, which was acknowledged", held, w.raft.durable, w.primary.acked)
	}
	return ""
}

// brokenFailover lets Step choose among those that pledged.
func (x *search) brokenFailover(w world) string {
	var flushed [maxStandbys]uint8
	for i, m := range w.m[:x.n] {
		if m.pledged {
			flushed[i] = m.flushed
		}
	}
	to := x.rules.recruit(w.raft, flushed)
	switch {
	case to < 0 && w.pledged().len() >= x.quorum(w):
		return fmt.Sprintf("stuck: %s pledged, and nobody is chosen", w.pledged())
	case to >= 0 && w.m[to].flushed < w.primary.acked:
		return fmt.Sprintf("lost: %s pledged, %s is chosen and has not commit %d, which was acknowledged", w.pledged(), name(to), w.primary.acked)
	}
	return ""
}

// trace tells how a world came about. Standbys that nothing tells apart may change
// their names on the way.
func (x *search) trace(at int) string {
	var lines []string
	for at > 0 {
		lines = append(lines, "  "+fmt.Sprintf(x.worlds[at].move, x.worlds[at].who))
		at = x.worlds[at].parent
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

func name(i int) pgcluster.NodeID { return pgcluster.NodeID('a' + rune(i)) }

// String lists the members.
func (m mask) String() string {
	var names []string
	for i := range maxStandbys {
		if m.has(i) {
			names = append(names, string(name(i)))
		}
	}
	return "{" + strings.Join(names, " ") + "}"
}
