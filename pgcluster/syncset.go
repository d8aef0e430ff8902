package pgcluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// SyncSet is a synchronous replication rule: a commit is acknowledged once K of
// Members have flushed it. K = 0 acknowledges alone.
type SyncSet struct {
	Members []NodeID `json:"members"` // sorted, distinct, never the primary itself
	K       int      `json:"k"`
}

// Names returns the value of synchronous_standby_names: ANY k (a, b), or empty
// for K = 0.
func (s SyncSet) Names() string {
	if s.K == 0 {
		return ""
	}
	names := make([]string, len(s.Members))
	for i, m := range s.Members {
		names[i] = string(m)
	}
	return fmt.Sprintf("ANY %d (%s)", s.K, strings.Join(names, ", "))
}

// ParseSyncSet reads what Names returns; false for a rule that it did not make.
func ParseSyncSet(names string) (SyncSet, bool) {
	if names == "" {
		return SyncSet{}, true
	}
	var s SyncSet
	rest, found := strings.CutPrefix(names, "ANY ")
	number, list, cut := strings.Cut(rest, " (")
	list, closed := strings.CutSuffix(list, ")")
	k, err := strconv.Atoi(number)
	if !found || !cut || !closed || err != nil {
		return SyncSet{}, false
	}
	s.K = k
	for name := range strings.SplitSeq(list, ", ") {
		s.Members = append(s.Members, NodeID(name))
	}
	return s, s.Names() == names
}

// Quorum returns how many members a failover must recruit so that they include
// one with every acknowledged commit and leave fewer than K to acknowledge more:
// n - k + 1. For K = 0 that is more than there are: only the primary itself will do.
func (s SyncSet) Quorum() int {
	return len(s.Members) - s.K + 1
}

// Has reports whether id is a member.
func (s SyncSet) Has(id NodeID) bool { return slices.Contains(s.Members, id) }

// With returns the set with id added.
func (s SyncSet) With(id NodeID) SyncSet {
	if s.Has(id) {
		return s
	}
	m := append(slices.Clone(s.Members), id)
	slices.Sort(m)
	return SyncSet{Members: m, K: s.K}
}

// Without returns the set with id removed.
func (s SyncSet) Without(id NodeID) SyncSet {
	m := slices.DeleteFunc(slices.Clone(s.Members), func(o NodeID) bool { return o == id })
	return SyncSet{Members: m, K: s.K}
}

// Equal reports whether both rules are the same.
func (s SyncSet) Equal(o SyncSet) bool { return s.K == o.K && slices.Equal(s.Members, o.Members) }

// Contains reports whether every member of o is a member of s.
func (s SyncSet) Contains(o SyncSet) bool {
	return !slices.ContainsFunc(o.Members, func(id NodeID) bool { return !s.Has(id) })
}

// String returns the names, or "none".
func (s SyncSet) String() string {
	if s.K == 0 {
		return "none"
	}
	return s.Names()
}
