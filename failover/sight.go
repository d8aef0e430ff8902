package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Sight is what one node sees of the others, by what it does anyway.
type Sight struct {
	Node      pgcluster.NodeID `json:"node"`
	Leader    pgcluster.NodeID `json:"leader,omitempty"` // of the Raft group, if it is known
	Confirmed bool             `json:"confirmed"`        // the node is in touch with it
	Epoch     uint64           `json:"epoch"`            // as agreed on, as far as it knows
	Peers     []Peer           `json:"peers"`            // every other member
	// Maintenance are nodes that people work on: nobody is to be told that they are gone.
	Maintenance []pgcluster.NodeID `json:"maintenance,omitempty"`
	Findings    []Finding          `json:"findings"` // worst first
}

// Peer is another node, as one sees it.
type Peer struct {
	Node  pgcluster.NodeID `json:"node"`
	Heard time.Duration    `json:"heard_ago_ns"` // since its xpd last answered; -1 never
	// Lost is for how long PostgreSQL there could not be connected to: 0 while connections
	// stand; -1 if nothing is known of it, as of a witness.
	Lost time.Duration `json:"postgres_lost_ns"`
}

// Bounds of what counts as reached.
const (
	unheard   = 3 * time.Second
	unreached = 5 * time.Second // PostgreSQL is tried again every second
)

// Hears reports whether the peer's xpd answered lately.
func (p Peer) Hears() bool { return p.Heard >= 0 && p.Heard < unheard }

// Reaches reports whether the peer's PostgreSQL can be connected to, as far as is known.
func (p Peer) Reaches() bool { return p.Lost < unreached }

// Look returns what node self sees: by v, and of PostgreSQL by lost, which says for how
// long each could not be connected to.
func Look(self pgcluster.NodeID, s State, v View, p Policy, g Group, lost map[pgcluster.NodeID]time.Duration) Sight {
	out := Sight{
		Node: self, Leader: g.Leader, Confirmed: g.Confirmed, Epoch: s.Primary.Epoch, Peers: []Peer{},
		Findings: append([]Finding{}, Examine(s, v, p, g)...),
	}
	for _, m := range s.Members {
		if s.Absent[m.ID].Kind == AbsenceMaintenance {
			out.Maintenance = append(out.Maintenance, m.ID)
		}
		if m.ID == self {
			continue
		}
		peer := Peer{Node: m.ID, Heard: -1, Lost: -1}
		if o, seen := v.Reports[m.ID]; seen {
			peer.Heard = v.Now - o.At
		}
		if d, known := lost[m.ID]; known && m.Data() {
			peer.Lost = d
		}
		out.Peers = append(out.Peers, peer)
	}
	return out
}

// Compare finds, in what members say that they see, who does not reach whom, and who
// did not answer.
func Compare(members []pgcluster.NodeID, sights []Sight) []Finding {
	var out []Finding
	add := func(c Code, id pgcluster.NodeID, problem, do string) {
		out = append(out, Finding{Code: c, Severity: SeverityWarning, Node: id, Problem: problem, Do: do})
	}
	epoch := uint64(0)
	for _, s := range sights {
		epoch = max(epoch, s.Epoch)
	}
	for _, id := range members {
		if slices.ContainsFunc(sights, func(s Sight) bool { return slices.Contains(s.Maintenance, id) }) {
			continue
		}
		i := slices.IndexFunc(sights, func(s Sight) bool { return s.Node == id })
		if i >= 0 && sights[i].Epoch < epoch {
			add(CodeOldState, id, fmt.Sprintf("knows of epoch %d, others of %d", sights[i].Epoch, epoch), "mend its link to the Raft leader; it catches up by itself")
		}
		deaf, nobody := without(sights, id, Peer.Hears)
		switch {
		case nobody:
			add(CodeUnheard, id, "its xpd is heard by no node that answers pgctl", "start its host and xpd, or mend its network")
		case i < 0:
			add(CodeNoAnswer, id, "its xpd does not answer pgctl", "start xpd there, or run pgctl where every node can be reached")
		}
		if !nobody && len(deaf) > 0 {
			add(CodeUnheard, id, "its xpd is not heard by "+list(deaf), "mend the network between them (HTTP port); other nodes hear it")
		}
		cut, nobody := without(sights, id, Peer.Reaches)
		switch {
		case nobody:
			add(CodeUnreached, id, "no node that answers pgctl can connect to its PostgreSQL", "see pgctl status for its state, and PostgreSQL's log there")
		case len(cut) > 0:
			add(CodeUnreached, id, "its PostgreSQL cannot be connected to from "+list(cut), "mend the network between them (PostgreSQL's port); other nodes can connect")
		}
	}
	return out
}

// without returns the nodes that do not reach a peer, and whether those are all that
// were asked.
func without(sights []Sight, id pgcluster.NodeID, reached func(Peer) bool) (ids []pgcluster.NodeID, nobody bool) {
	asked := 0
	for _, s := range sights {
		i := slices.IndexFunc(s.Peers, func(p Peer) bool { return p.Node == id })
		if i < 0 {
			continue
		}
		asked++
		if !reached(s.Peers[i]) {
			ids = append(ids, s.Node)
		}
	}
	return ids, asked > 0 && len(ids) == asked
}
