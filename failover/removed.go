package failover

import (
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// maxGone bounds how many names of former members are kept: a host that left before so
// many others needs another CA to be kept out, and its name could be given away.
const maxGone = 200

// Removed reports whether id was a member once and is none any more. It says no of a
// name that it does not know: who has fallen behind hears of new members from
// themselves.
func (s State) Removed(id pgcluster.NodeID) bool {
	_, member := s.Member(id)
	return !member && slices.Contains(s.Gone, id)
}

// gone returns the names of former members once was has become is.
func gone(names []pgcluster.NodeID, was, is []pgcluster.Member) []pgcluster.NodeID {
	named := func(id pgcluster.NodeID) func(pgcluster.Member) bool {
		return func(m pgcluster.Member) bool { return m.ID == id }
	}
	names = slices.Clone(names)
	for _, m := range was {
		if !slices.ContainsFunc(is, named(m.ID)) {
			names = append(names, m.ID)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return names[max(0, len(names)-maxGone):]
}
