package failover_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestNextGroupChange(t *testing.T) {
	t.Parallel()
	member := func(ids ...pgcluster.NodeID) []pgcluster.Member {
		var out []pgcluster.Member
		for i, id := range ids {
			out = append(out, pgcluster.Member{ID: id, Host: "h", RaftPort: i + 1})
		}
		return out
	}
	voter := func(id pgcluster.NodeID) failover.Server { return failover.Server{ID: id, Voter: true} }
	newcomer := failover.Server{ID: "n3", Addr: "h:3"}
	three := []failover.Server{voter("n1"), voter("n2"), voter("n3")}
	five := append(three[:3:3], voter("n4"), voter("n5"))
	tests := map[string]struct {
		servers []failover.Server
		members []pgcluster.Member
		self    pgcluster.NodeID
		stable  []pgcluster.NodeID
		told    []pgcluster.NodeID
		silent  []pgcluster.NodeID
		want    failover.GroupChange // zero: none
	}{
		"nothing to do": {servers: three, members: member("n1", "n2", "n3"), self: "n1"},
		"new member does not vote yet": {
			servers: three[:2], members: member("n1", "n2", "n3"), self: "n1", stable: []pgcluster.NodeID{"n3"},
			want: failover.GroupChange{Step: failover.GroupAdd, Server: newcomer},
		},
		"waits until it is stable": {
			servers: append(three[:2:2], newcomer), members: member("n1", "n2", "n3"), self: "n1",
		},
		"votes when it is stable": {
			servers: append(three[:2:2], newcomer), members: member("n1", "n2", "n3"), self: "n1", stable: []pgcluster.NodeID{"n3"},
			want: failover.GroupChange{Step: failover.GroupPromote, Server: failover.Server{ID: "n3", Addr: "h:3", Voter: true}},
		},
		"removed member is told first": {servers: three, members: member("n1", "n2"), self: "n1"},
		"removed member goes": {
			servers: three, members: member("n1", "n2"), self: "n1", told: []pgcluster.NodeID{"n3"},
			want: failover.GroupChange{Step: failover.GroupRemove, Server: voter("n3")},
		},
		"a removed leader never removes itself": {
			servers: three, members: member("n2", "n3"), self: "n1", told: []pgcluster.NodeID{"n1"},
			want: failover.GroupChange{Step: failover.GroupLeave, Server: voter("n1")},
		},
		"the dead go before the new come": {
			servers: three, members: member("n1", "n2", "n4"), self: "n1", told: []pgcluster.NodeID{"n3"},
			want: failover.GroupChange{Step: failover.GroupRemove, Server: voter("n3")},
		},
		"the dead go, though others are dead": {
			servers: five, members: member("n1", "n2", "n3", "n5"), self: "n1", told: []pgcluster.NodeID{"n4"}, silent: []pgcluster.NodeID{"n4", "n5"},
			want: failover.GroupChange{Step: failover.GroupRemove, Server: voter("n4")},
		},
		"nobody goes who makes the majority": {
			servers: three, members: member("n1", "n2"), self: "n1", told: []pgcluster.NodeID{"n3"}, silent: []pgcluster.NodeID{"n2"},
		},
		"of two that go, the dead one first": {
			servers: five[:4], members: member("n1", "n2"), self: "n1", told: []pgcluster.NodeID{"n3", "n4"}, silent: []pgcluster.NodeID{"n2", "n4"},
			want: failover.GroupChange{Step: failover.GroupRemove, Server: voter("n4")},
		},
		"a newcomer makes up for it": {
			servers: three, members: member("n1", "n2", "n4"), self: "n1", told: []pgcluster.NodeID{"n3"}, silent: []pgcluster.NodeID{"n2"},
			want: failover.GroupChange{Step: failover.GroupAdd, Server: failover.Server{ID: "n4", Addr: "h:3"}},
		},
		"who does not vote goes at any time": {
			servers: append(three[:2:2], newcomer), members: member("n1", "n2"), self: "n1", told: []pgcluster.NodeID{"n3"}, silent: []pgcluster.NodeID{"n2"},
			want: failover.GroupChange{Step: failover.GroupRemove, Server: newcomer},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := func(ids []pgcluster.NodeID) func(pgcluster.NodeID) bool {
				return func(id pgcluster.NodeID) bool { return slices.Contains(ids, id) }
			}
			got, found := failover.NextGroupChange(tt.servers, tt.members, tt.self, in(tt.stable), in(tt.told),
				func(id pgcluster.NodeID) bool { return !slices.Contains(tt.silent, id) })
			if diff := cmp.Diff(tt.want, got); diff != "" || found != (tt.want.Step != "") {
				t.Errorf("NextGroupChange() = %v (-want +got):\n%s", found, diff)
			}
		})
	}
}
