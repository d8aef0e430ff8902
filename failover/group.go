package failover

import (
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Server is a node as the Raft group knows it.
type Server struct {
	ID    pgcluster.NodeID
	Addr  string // of its Raft
	Voter bool
}

// GroupStep is a way to change the Raft group by one server.
type GroupStep string

// Steps towards the members that were agreed on.
const (
	GroupAdd     GroupStep = "add"     // as a non-voter, which follows the log and decides nothing
	GroupPromote GroupStep = "promote" // to a voter
	GroupRemove  GroupStep = "remove"
	GroupLeave   GroupStep = "leave" // this node leads and is no member: another one must lead first
)

// GroupChange is one step about one server.
type GroupChange struct {
	Step   GroupStep
	Server Server
}

// NextGroupChange returns the step that brings the Raft group, as node self leads
// it, nearer to members, or false if there is none to be taken now. One step at a
// time keeps any two majorities overlapping.
//
// A new member votes once it is stable: until then its vote could only be missed. A
// server that is no member any more goes first, for if it is dead it counts against
// the majority; but only once it had the time to learn of it (told), and not while those
// that answer would be no majority without it: nobody could take that back.
func NextGroupChange(servers []Server, members []pgcluster.Member, self pgcluster.NodeID, stable, told, answers func(pgcluster.NodeID) bool) (GroupChange, bool) {
	isMember := func(id pgcluster.NodeID) bool {
		return slices.ContainsFunc(members, func(m pgcluster.Member) bool { return m.ID == id })
	}
	for _, s := range servers {
		if isMember(s.ID) || !told(s.ID) {
			continue
		}
		if s.ID == self {
			return GroupChange{Step: GroupLeave, Server: s}, true
		}
		if s.Voter && !majorityWithout(servers, s.ID, answers) {
			continue
		}
		return GroupChange{Step: GroupRemove, Server: s}, true
	}
	for _, m := range members {
		i := slices.IndexFunc(servers, func(s Server) bool { return s.ID == m.ID })
		switch {
		case i < 0:
			return GroupChange{Step: GroupAdd, Server: Server{ID: m.ID, Addr: m.RaftAddr()}}, true
		case !servers[i].Voter && stable(m.ID):
			return GroupChange{Step: GroupPromote, Server: Server{ID: m.ID, Addr: m.RaftAddr(), Voter: true}}, true
		}
	}
	return GroupChange{}, false
}

// majorityWithout reports whether those that answer are a majority of the voters but id.
func majorityWithout(servers []Server, id pgcluster.NodeID, answers func(pgcluster.NodeID) bool) bool {
	voters, there := 0, 0
	for _, s := range servers {
		if !s.Voter || s.ID == id {
			continue
		}
		voters++
		if answers(s.ID) {
			there++
		}
	}
	return there > voters/2
}
