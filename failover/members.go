package failover

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// waitable reports whether commits may be made to wait for m.
func waitable(m pgcluster.Member) bool { return m.Data() && !m.NoSync && !m.Leaving }

// K returns how many standbys a commit should wait for: what was asked for, or half
// of the nodes that may be waited for, rounded down, so that a commit is on a
// majority of them. It leaves one node out, the primary, and is 0 only in
// ModeAvailable. What it is at present says Sync: see syncset.go for how it gets here.
func (s State) K() int {
	n := 0
	for _, m := range s.Members {
		if waitable(m) {
			n++
		}
	}
	k := s.Settings.K
	if k == 0 {
		k = n / 2
	}
	return max(min(k, n-1), s.leastK())
}

// leastK is how low k may ever go.
func (s State) leastK() int {
	if s.Settings.Mode == ModeAvailable {
		return 0
	}
	return 1
}

// dataMembers returns the members that run a PostgreSQL. Nobody else is ever given
// an order, or counted.
func (s State) dataMembers() []pgcluster.Member {
	return slices.DeleteFunc(slices.Clone(s.Members), func(m pgcluster.Member) bool { return m.Witness })
}

// mayJoin reports whether id may be in a sync set.
func (s State) mayJoin(id pgcluster.NodeID) bool {
	m, ok := s.Member(id)
	return ok && waitable(m) && !s.absent(id)
}

// sameZone reports whether two nodes are known to fail together.
func (s State) sameZone(a, b pgcluster.NodeID) bool {
	m, _ := s.Member(a)
	o, _ := s.Member(b)
	return m.Zone != "" && m.Zone == o.Zone
}

// maxDataMembers bounds a cluster: every commit of more nodes than that waits for
// too many, and a primary streams to each of them.
const maxDataMembers = 7

// AddMember returns the state in which m belongs to the cluster. A node with a
// PostgreSQL becomes a standby; once it streams, commits may wait for it. It returns
// a *RefusedError for a name that is or was taken, or an address that is, while the primary changes, and in a pause.
func AddMember(s State, v View, _ Policy, m pgcluster.Member) (State, error) {
	if err := s.tended(); err != nil {
		return s, err
	}
	if _, err := pgcluster.ParseNodeID(string(m.ID)); err != nil {
		return s, &RefusedError{err.Error()}
	}
	if slices.Contains(s.Gone, m.ID) {
		return s, &RefusedError{fmt.Sprintf("%s was removed before: what it pledged and voted is forgotten, and may still be "+
			"counted on, so take a name that is new", m.ID)}
	}
	data := 0
	for _, o := range s.Members {
		if o.ID == m.ID {
			return s, &RefusedError{fmt.Sprintf("there is a node %s already", m.ID)}
		}
		if addr, taken := shared(o, m); taken {
			return s, &RefusedError{fmt.Sprintf("%s uses address %s already", o.ID, addr)}
		}
		if o.Data() {
			data++
		}
	}
	if m.Data() && data >= maxDataMembers {
		return s, &RefusedError{fmt.Sprintf("there are %d nodes with a PostgreSQL already", data)}
	}
	m.Leaving = false
	members := append(slices.Clone(s.Members), m)
	slices.SortFunc(members, func(a, b pgcluster.Member) int { return cmp.Compare(a.ID, b.ID) })
	return s.withMembers(v, members, "added", m.ID, "asked for"), nil
}

// RemoveMember returns the state in which id is on its way out: commits cease to wait
// for it, whether it is there or not, and Step drops it then. It returns a
// *RefusedError for the primary, in a pause, and where too few would be left, or stream or
// vote in Raft at present.
func RemoveMember(s State, v View, p Policy, id pgcluster.NodeID) (State, error) {
	if err := s.tended(); err != nil {
		return s, err
	}
	m, known := s.Member(id)
	switch {
	case !known:
		return s, &RefusedError{fmt.Sprintf("there is no node %q", id)}
	case m.Leaving:
		return s, &RefusedError{fmt.Sprintf("%s is being removed already", id)}
	case id == s.Primary.Node:
		return s, &RefusedError{fmt.Sprintf("%s is primary: switch over to another node first", id)}
	}
	m.Leaving = true
	next, err := s.changeMember(v, p, m, "leaving")
	if err != nil {
		return s, err
	}
	if refusal := next.leaderless(v, p, id); refusal != "" {
		return s, &RefusedError{refusal}
	}
	return next, nil
}

// leaderless says why Raft could agree on nothing more once those who leave, id the last of
// them, are out of its group: then nobody could even take them back. One that does not
// answer is no loss to it, whoever else does: after a recovery, none of the lost ones votes.
func (s State) leaderless(v View, p Policy, id pgcluster.NodeID) string {
	if _, ok := v.report(id, p); !ok {
		return ""
	}
	left, dead := 0, []pgcluster.NodeID(nil)
	for _, m := range s.Members {
		if m.Leaving {
			continue
		}
		left++
		if _, ok := v.report(m.ID, p); !ok {
			dead = append(dead, m.ID)
		}
	}
	if majority := left/2 + 1; left-len(dead) < majority {
		return fmt.Sprintf("Raft would need %d of the %d nodes that are left without %s, and %d of them answer (silent: %s): "+
			"bring one of those back or remove it first, or add a node or a witness (pgctl node add)", majority, left, id, left-len(dead), list(dead))
	}
	return ""
}

// ChangeMember returns the state in which the member of m's name has m's tags. It
// returns a *RefusedError if more than tags would change, or too few nodes would be
// left to wait for, or stream at present.
func ChangeMember(s State, v View, p Policy, m pgcluster.Member) (State, error) {
	if err := s.calm(); err != nil {
		return s, err
	}
	old, known := s.Member(m.ID)
	if !known {
		return s, &RefusedError{fmt.Sprintf("there is no node %q", m.ID)}
	}
	tags := old
	tags.Zone, tags.Priority, tags.NoFailover, tags.NoSync = m.Zone, m.Priority, m.NoFailover, m.NoSync
	switch {
	case tags != m:
		return s, &RefusedError{fmt.Sprintf("only the tags of %s can change: remove it and add another", m.ID)}
	case m == old:
		return s, nil
	}
	return s.changeMember(v, p, m, "changed")
}

// changeMember replaces the member of m's name.
func (s State) changeMember(v View, p Policy, m pgcluster.Member, kind string) (State, error) {
	members := slices.Clone(s.Members)
	waited, promotable := 0, 0
	for i, o := range members {
		if o.ID == m.ID {
			members[i], o = m, m
		}
		if waitable(o) {
			waited++
		}
		if waitable(o) && !o.NoFailover {
			promotable++
		}
	}
	if least := s.leastK() + 1; waited < least && m.Data() {
		return s, &RefusedError{fmt.Sprintf("a commit must be on %d nodes, and only %d would be left for that", least, waited)}
	}
	if promotable == 0 && m.Data() {
		return s, &RefusedError{"no node would be left that may be promoted"}
	}
	next := s.withMembers(v, members, kind, m.ID, "asked for")
	if refusal := next.irreplaceable(v, p, m.ID); refusal != "" {
		return s, &RefusedError{refusal}
	}
	return next, nil
}

// irreplaceable says why commits cannot cease to wait for id, which is not to be
// waited for any more: too few others stream, so nothing would come of it until they do.
func (s State) irreplaceable(v View, p Policy, id pgcluster.NodeID) string {
	k := min(s.Sync.Durable.K, s.K())
	if s.mayJoin(id) || !s.Sync.Durable.Has(id) || k == 0 {
		return ""
	}
	r, ok := v.report(s.Primary.Node, p)
	if !ok {
		return fmt.Sprintf("commits wait for %s, and the primary %s does not report who else streams", id, s.Primary.Node)
	}
	var others pgcluster.SyncSet
	for _, m := range s.Members {
		if s.mayJoin(m.ID) && m.ID != r.Node {
			others = others.With(m.ID)
		}
	}
	if n := streaming(r, others); n < k {
		return fmt.Sprintf("commits wait for %s, and of the others (%s) only %d of the %d that are needed stream: bring one back or add one first",
			id, list(others.Members), n, k)
	}
	return ""
}

// withMembers returns s with other members, which every node is to know of.
func (s State) withMembers(v View, members []pgcluster.Member, kind string, id pgcluster.NodeID, reason string) State {
	d := decision{s: s.clone(), v: v}
	d.s.Gone = gone(s.Gone, s.Members, members)
	d.s.Members = members
	d.s.Settings.Version = d.newest() + 1
	d.record(Event{At: v.Wall, Epoch: s.Primary.Epoch, Kind: kind, Node: id, Reason: reason})
	return d.s
}

// calm returns a *RefusedError while there is no open primary, or it changes.
func (s State) calm() error {
	if s.Op != nil {
		return &RefusedError{fmt.Sprintf("a %s is under way (phase %s)", s.Op.Kind, s.Op.Phase)}
	}
	if s.Primary.Access != AccessOpen {
		return &RefusedError{"the cluster has no open primary"}
	}
	return nil
}

// tended returns a *RefusedError while nothing would be done for a member that comes or
// goes.
func (s State) tended() error {
	if err := s.calm(); err != nil {
		return err
	}
	if s.Paused != nil {
		return &RefusedError{"the cluster is paused, so that no node is taken in or let go: pgctl resume first"}
	}
	return nil
}

// addresses returns where a member listens.
func addresses(m pgcluster.Member) []string {
	if m.Witness {
		return []string{m.HTTPAddr(), m.RaftAddr()}
	}
	return []string{m.HTTPAddr(), m.RaftAddr(), m.PGAddr()}
}

// shared returns an address that both members use.
func shared(a, b pgcluster.Member) (string, bool) {
	used := addresses(a)
	for _, addr := range addresses(b) {
		if slices.Contains(used, addr) {
			return addr, true
		}
	}
	return "", false
}

// dropLeft forgets members on their way out that no commit rests on any more. No
// operation is under way, so none refers to them.
func (d *decision) dropLeft() {
	for _, m := range d.s.Members {
		sync := d.s.Sync
		waited := sync.Durable.Has(m.ID) || (sync.Pending != nil && sync.Pending.Has(m.ID))
		if m.Leaving && !waited && m.ID != d.s.Primary.Node {
			d.s = d.s.withMembers(d.v, slices.DeleteFunc(slices.Clone(d.s.Members), func(o pgcluster.Member) bool { return o.ID == m.ID }),
				"removed", m.ID, "no commit waits for it")
			return
		}
	}
}

// keep takes back the removal, or the absence, of a node that had to become primary.
func (d *decision) keep(id pgcluster.NodeID) {
	if d.s.absent(id) {
		d.endAbsence(id, "it is primary now")
	}
	for i, m := range d.s.Members {
		if m.ID == id && m.Leaving {
			members := slices.Clone(d.s.Members)
			members[i].Leaving = false
			d.s = d.s.withMembers(d.v, members, "changed", id, "it is primary now, so it is not removed")
		}
	}
}
