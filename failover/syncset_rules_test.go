package failover_test

import (
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// agreed is failover.Sync as an exhaustive search keeps it.
type agreed struct {
	durable mask
	k       uint8
	removed uint8 // number of the member on its way out, from 1 on; 0 if none is
	raising bool
	past    uint8
	mark    uint8
	seq     uint8
	want    uint8 // k that people asked for
	asked   uint8 // how often they did
}

// target returns the rule that PostgreSQL should have in force.
func (a agreed) target() rule {
	switch {
	case a.removed != 0:
		return rule{a.durable &^ (1 << (a.removed - 1)), a.k}
	case a.raising:
		return rule{a.durable, a.k + 1}
	}
	return rule{a.durable, a.k}
}

func (a agreed) pending() bool { return a.removed != 0 || a.raising }

// String is for traces.
func (a agreed) String() string {
	if !a.pending() {
		return fmt.Sprintf("%s as rule %d", a.target(), a.seq)
	}
	return fmt.Sprintf("%s as rule %d instead of %s, past %d, mark %d", a.target(), a.seq, rule{a.durable, a.k}, a.past, a.mark)
}

// seen is a primary's report, of some time ago.
type seen struct {
	taken  bool
	seq    uint8
	loaded rule
	end    uint8
	m      [maxStandbys]seenMember
}

type seenMember struct {
	streaming, counts bool
	flushed           uint8
}

func (m seenMember) key() int {
	k := int(m.flushed) << 2
	if m.streaming {
		k++
	}
	if m.counts {
		k += 2
	}
	return k
}

// look is a report of this moment.
func (x *search) look(w world) seen {
	v := seen{taken: true, loaded: w.primary.loaded, end: w.primary.end}
	// The agent says so once commits wait as the rule says.
	if w.primary.aware && w.primary.armed == (w.primary.loaded.k > 0) {
		v.seq = w.primary.accepted
	}
	for i, m := range w.m[:x.n] {
		if m.streaming {
			v.m[i] = seenMember{true, m.counts(i), m.flushed}
		}
	}
	return v
}

// rules asks Step, and remembers its answers.
type rules struct {
	n         int
	available bool
	decisions map[decisionKey]agreed
	choices   map[choiceKey]int
}

type decisionKey struct {
	raft agreed
	view seen
}

type choiceKey struct {
	raft    agreed
	flushed [maxStandbys]uint8 // of those that pledged
}

func newRules(n int, available bool) *rules {
	return &rules{n: n, available: available, decisions: map[decisionKey]agreed{}, choices: map[choiceKey]int{}}
}

// primaryName comes after those of the standbys.
const primaryName = "p"

func (r *rules) set(x rule) pgcluster.SyncSet {
	s := pgcluster.SyncSet{K: int(x.k)}
	for i := range r.n {
		if x.m.has(i) {
			s.Members = append(s.Members, name(i))
		}
	}
	return s
}

func (r *rules) mask(s pgcluster.SyncSet) mask {
	var m mask
	for i := range r.n {
		if s.Has(name(i)) {
			m |= 1 << i
		}
	}
	return m
}

func (r *rules) state(a agreed) failover.State {
	s := steady()
	s.Primary.Node, s.Epochs[0].Node = primaryName, primaryName
	s.Floor.LSN = firstLSN
	s.Settings.K = int(a.want)
	if r.available {
		s.Settings.Mode = failover.ModeAvailable
	}
	s.Members = []pgcluster.Member{{ID: primaryName}}
	for i := range r.n {
		s.Members = append(s.Members, pgcluster.Member{ID: name(i)})
	}
	s.Sync = failover.Sync{
		Durable: r.set(rule{a.durable, a.k}), Past: pgcluster.LSN(a.past), Mark: pgcluster.LSN(a.mark), Seq: uint64(a.seq),
	}
	if a.pending() {
		pending := r.set(a.target())
		s.Sync.Pending = &pending
	}
	return s
}

// steady returns what becomes of the sync set after a look.
func (r *rules) steady(a agreed, v seen) agreed {
	key := decisionKey{a, v}
	next, ok := r.decisions[key]
	if !ok {
		next = r.decide(a, v)
		r.decisions[key] = next
	}
	return next
}

func (r *rules) decide(a agreed, v seen) agreed {
	up := primary()
	up.Node, up.SyncNames, up.Order.SyncSeq = primaryName, r.set(v.loaded).Names(), uint64(v.seq)
	up.Position.LSN, up.Senders = pgcluster.LSN(v.end), nil
	view := see()
	for i := range r.n {
		if m := v.m[i]; m.streaming {
			s := sender(name(i), pgcluster.LSN(m.flushed))
			if !m.counts {
				s.SyncPriority = 0
			}
			up.Senders = append(up.Senders, s)
		}
		down := standby(name(i))
		down.Receiver.Upstream = primaryName
		view.Reports[down.Node] = failover.Observation{Report: down, At: now}
	}
	view.Reports[primaryName] = failover.Observation{Report: up, At: now}
	view.Streamed = map[pgcluster.NodeID]time.Duration{} // whoever does not stream has been lost for long
	s, _ := failover.Step(r.state(a), view, policy)
	next := a
	next.durable, next.k = r.mask(s.Sync.Durable), uint8(s.Sync.Durable.K)
	next.past, next.mark, next.seq = uint8(s.Sync.Past), uint8(s.Sync.Mark), uint8(s.Sync.Seq)
	next.removed, next.raising = 0, s.Sync.Pending != nil && s.Sync.Pending.K > s.Sync.Durable.K
	if s.Sync.Pending != nil && !next.raising {
		gone := next.durable &^ r.mask(*s.Sync.Pending)
		for !gone.has(int(next.removed)) {
			next.removed++
		}
		next.removed++
	}
	return next
}

// recruit returns whom Step promotes once those that have flushed something pledged
// and nobody else was heard of, or -1.
func (r *rules) recruit(a agreed, flushed [maxStandbys]uint8) int {
	key := choiceKey{a, flushed}
	to, ok := r.choices[key]
	if !ok {
		to = r.choose(a, flushed)
		r.choices[key] = to
	}
	return to
}

func (r *rules) choose(a agreed, flushed [maxStandbys]uint8) int {
	s := r.state(a)
	s.Primary.Access = failover.AccessClosed
	s.Op = &failover.Operation{ID: 2, Kind: failover.KindFailover, Epoch: 2, Phase: failover.PhaseRecruit, From: primaryName}
	view := see()
	for i := range r.n {
		if flushed[i] > 0 {
			down := standby(name(i), pledged(2), at(pgcluster.LSN(flushed[i])))
			view.Reports[down.Node] = failover.Observation{Report: down, At: now}
		}
	}
	s, _ = failover.Step(s, view, policy)
	if s.Op.Phase != failover.PhasePromote {
		return -1
	}
	for i := range r.n {
		if name(i) == s.Op.To {
			return i
		}
	}
	return -1
}
