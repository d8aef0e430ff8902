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
//     quorum has it; or K = 0 is recorded, and there is no quorum;
//   - once a quorum has pledged, whichever it is, the node that Step chooses has
//     every commit that the old primary ever acknowledges.
//
// The decisions are those of Step, on reports of any age. Orders arrive late and out
// of order, or never. The end of a leader between two steps needs no move of its
// own: what it would have done next just does not happen.
//
// A walsender acts on a reload late, but before it reads the answer to anything that
// it sent after it was told. Whether a commit waits at all is up to the checkpointer,
// which is late too.
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
		// k goes up and down, as people ask for.
		{name: "raise", n: 2, k: 1, ks: []uint8{2, 1}, durable: all(2), flaky: 2, changes: 3, commits: 2, leaders: 1},
		{name: "raise, two leaders", n: 2, k: 1, ks: []uint8{2}, durable: all(2), flaky: 2, changes: 3, commits: 2, leaders: 2},
		{name: "raise and grow", n: 3, k: 1, ks: []uint8{2}, durable: all(2), changes: 4, commits: 2, leaders: 1},
		{name: "raise", n: 4, k: 1, ks: []uint8{2}, durable: all(4), changes: 3, commits: 2, leaders: 1},
		{name: "raise", n: 5, k: 2, ks: []uint8{3}, durable: all(5), changes: 2, commits: 2, leaders: 1},
		{name: "lower", n: 3, k: 2, ks: []uint8{1, 2}, durable: all(3), changes: 3, commits: 2, leaders: 1},
		{name: "lower", n: 4, k: 3, ks: []uint8{1}, durable: all(4), flaky: 8, changes: 3, commits: 1, leaders: 1},
		{name: "lower", n: 5, k: 3, ks: []uint8{2}, durable: all(5), changes: 3, commits: 1, leaders: 1},
		// k goes down with those who are lost, to none at last, and up again.
		{name: "available", n: 1, k: 1, available: true, durable: all(1), flaky: all(1), changes: 4, commits: 2, leaders: 1},
		{name: "available, two leaders", n: 1, k: 1, available: true, durable: all(1), flaky: all(1), changes: 3, commits: 1, leaders: 2},
		{name: "available", n: 2, k: 1, available: true, durable: all(2), flaky: all(2), changes: 3, commits: 1, leaders: 1},
		{name: "available", n: 2, k: 2, available: true, durable: all(2), flaky: all(2), changes: 3, commits: 1, leaders: 1},
		{name: "available", n: 3, k: 1, available: true, durable: all(2), flaky: 3, changes: 3, commits: 1, leaders: 1},
	} {
		t.Run(fmt.Sprintf("%s %d of %d", s.name, s.k, s.n), func(t *testing.T) {
			t.Parallel()
			if s.n > 3 && testing.Short() || s.n > 1 && raced {
				t.Skip("a big search")
			}
			s.search(t)
		})
	}
}

// scenario bounds a search.
type scenario struct {
	name      string
	n         int
	k         uint8   // recorded at first
	ks        []uint8 // that people ask for, one after the other
	durable   mask    // the recorded set at first
	available bool
	flaky     mask  // members whose connection breaks and comes back
	changes   uint8 // orders of a rule, at most
	commits   uint8
	leaders   int // views of different age that decisions rest on
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
	rules   [maxRules]rule // by number; those that can still arrive
	primary server
	m       [maxStandbys]member
	views   [2]seen
	failing bool // a failover has begun
}

// server is the primary's PostgreSQL and its agent.
type server struct {
	accepted uint8 // number of the last order
	aware    bool  // xpd was not restarted since
	file     rule  // in the configuration
	loaded   rule  // by the postmaster
	armed    bool  // the checkpointer lets commits wait
	end      uint8
	acked    uint8
}

// member is a standby and the walsender that serves it.
type member struct {
	streaming bool
	rule      rule  // that the walsender has loaded
	told      uint8 // how far the WAL went when it was told to reload; 0 if it was not
	flushed   uint8
	pledged   bool
}

// rule is a sync set as PostgreSQL has it.
type rule struct {
	m mask
	k uint8
}

// String is for failures.
func (r rule) String() string { return fmt.Sprintf("%d of %s", r.k, r.m) }

// counts reports whether the walsender counts itself.
func (m member) counts(i int) bool { return m.streaming && m.rule.k > 0 && m.rule.m.has(i) }

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
	x := &search{scenario: s, rules: newRules(s.n, s.available), known: map[world]struct{}{}}
	x.visit(s.begin(), 0, "begin", nil)
	for at := 0; at < len(x.worlds); at++ { //nolint:intrange // it grows on the way
		w := x.worlds[at].world
		if problem := x.broken(w); problem != "" {
			t.Fatalf("%s, after\n%s", problem, x.trace(at))
		}
		x.moves(w, func(next world, move string, who any) { x.visit(next, at, move, who) })
	}
	t.Logf("%d worlds", len(x.worlds))
	if !x.grown && s.durable.len() < s.n || !x.shrunk && s.flaky != 0 && s.durable.len() > 1 {
		t.Errorf("the set never grew (%t) or never shrank (%t)", x.grown, x.shrunk)
	}
	for _, k := range s.ks {
		if !x.hadK[k] || (s.available && !x.hadK[0]) {
			t.Errorf("k was never %d, or never 0", k)
		}
	}
}

type search struct {
	scenario
	rules  *rules
	known  map[world]struct{}
	worlds []visited

	grown, shrunk bool
	hadK          [maxStandbys + 1]bool
}

func (s scenario) begin() world {
	var w world
	first := rule{s.durable, s.k}
	w.raft = agreed{durable: s.durable, k: s.k, want: s.k, seq: 1}
	w.rules[1] = first
	w.primary = server{accepted: 1, aware: true, file: first, loaded: first, armed: true, end: firstLSN, acked: firstLSN}
	for i := range s.n {
		w.m[i] = member{streaming: true, rule: first, flushed: firstLSN}
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
		w.rules[seq] = rule{}
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
		return a.m.key() - b.m.key() + (a.views[0].key()-b.views[0].key())<<16 + (a.views[1].key()-b.views[1].key())<<22
	})
	for i := range steadfast {
		w.m[i], w.views[0].m[i], w.views[1].m[i] = columns[i].m, columns[i].views[0], columns[i].views[1]
	}
	return w
}

func (m member) key() int {
	k := int(m.told)<<12 + int(m.rule.k)<<9 + int(m.rule.m)<<4 + int(m.flushed)<<2
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
			x.hadK[raft.k] = true
			next.rules[raft.seq] = raft.target()
			to(next, "leader saves %v", raft)
		}
	}
	next := w
	if int(w.raft.asked) < len(x.ks) {
		next.raft.want = x.ks[w.raft.asked]
		next.raft.asked++
		to(next, "somebody asks for k = %d", next.raft.want)
		next = w
	}
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
		to(x.tell(w), "the postmaster reloads%v", "")
	}
	if armed := p.loaded.k > 0; armed != p.armed {
		next := w
		next.primary.armed = armed
		if !armed {
			next.primary.acked = p.end // who waited is let go
		}
		to(next, "the checkpointer lets commits wait: %t", armed)
	}
	if p.end < firstLSN+x.commits {
		next := w
		next.primary.end++
		if !p.armed {
			next.primary.acked = next.primary.end
		}
		to(next, "a client commits%v", "")
	}
}

// tell is the postmaster's reload: it tells the walsenders.
func (x *search) tell(w world) world {
	w.primary.loaded = w.primary.file
	for i := range x.n {
		switch m := &w.m[i]; {
		case !m.streaming || m.rule == w.primary.loaded:
			m.told = 0
		case m.told == 0:
			m.told = w.primary.end
		}
	}
	return w
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
	case m.streaming && m.told != 0:
		next.m[i].rule, next.m[i].told = w.primary.loaded, 0
		to(x.release(next), "the walsender of %c reloads", rune('a'+i))
	}
	if m.streaming && m.flushed < w.primary.end && (m.told == 0 || m.flushed < m.told) {
		next := w
		next.m[i].flushed++
		to(x.release(next), "%c flushes", rune('a'+i))
	}
	if m.streaming && x.flaky.has(i) {
		next := w
		next.m[i].streaming, next.m[i].rule, next.m[i].told = false, rule{}, 0
		to(next, "%c breaks off", rune('a'+i))
	}
	if w.failing && !m.pledged && w.raft.durable.has(i) && w.pledged().len() < x.quorum(w) {
		next := w
		next.m[i] = member{flushed: m.flushed, pledged: true}
		to(next, "%c pledges", rune('a'+i))
	}
}

// release acknowledges what walsenders that count themselves have flushed: as many as
// the rule of the one that does it says.
func (x *search) release(w world) world {
	flushed := make([]uint8, 0, maxStandbys)
	for i, m := range w.m[:x.n] {
		if m.counts(i) {
			flushed = append(flushed, m.flushed)
		}
	}
	slices.Sort(flushed)
	for i, m := range w.m[:x.n] {
		if k := int(m.rule.k); m.counts(i) && len(flushed) >= k {
			w.primary.acked = max(w.primary.acked, flushed[len(flushed)-k])
		}
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
func (x *search) quorum(w world) int { return w.raft.durable.len() - int(w.raft.k) + 1 }

// broken says which promise w breaks, or nothing.
func (x *search) broken(w world) string {
	if w.failing {
		return x.brokenFailover(w)
	}
	if w.raft.k == 0 {
		return "" // only the primary itself would be promoted
	}
	in := w.primary.loaded
	if !w.primary.armed {
		in = rule{}
	}
	counting := rule{k: in.k}
	for i, m := range w.m[:x.n] {
		if m.counts(i) {
			counting.m |= 1 << i
			counting.k = min(max(counting.k, 1), m.rule.k)
		}
	}
	for i, in := range []rule{in, counting} {
		if i == 1 && (counting.m == 0 || !w.primary.armed) {
			continue
		}
		union := in.m | w.raft.durable
		if int(in.k)+x.quorum(w) <= union.len() || (union != in.m && union != w.raft.durable) {
			what := []string{"in the postmaster", "that walsenders apply"}[i]
			return fmt.Sprintf("I3: %s is the rule %s, while failovers recruit %d of %s", in, what, x.quorum(w), w.raft.durable)
		}
	}
	held := 0
	for i, m := range w.m[:x.n] {
		if w.raft.durable.has(i) && m.flushed >= w.primary.acked {
			held++
		}
	}
	if held < int(w.raft.k) {
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
	case to < 0 && w.raft.k > 0 && w.pledged().len() >= x.quorum(w):
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
