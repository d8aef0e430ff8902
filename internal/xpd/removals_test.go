package xpd

import (
	"testing"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Nobody gets in before it is known who was removed; at a first start, nobody was.
func TestMembership_banned(t *testing.T) {
	t.Parallel()
	var m membership
	for _, step := range []struct {
		what   string
		agreed *failover.State
		n2, n4 bool
	}{
		{"nothing was read", nil, true, true},
		{"a first start", &failover.State{}, false, false},
		{"n4 was removed", &failover.State{Members: []pgcluster.Member{{ID: "n2"}}, Gone: []pgcluster.NodeID{"n4"}}, false, true},
	} {
		m.agreed.Store(step.agreed)
		if n2, n4 := m.banned("n2"), m.banned("n4"); n2 != step.n2 || n4 != step.n4 {
			t.Errorf("%s: banned(n2) = %v, banned(n4) = %v, want %v and %v", step.what, n2, n4, step.n2, step.n4)
		}
	}
}
