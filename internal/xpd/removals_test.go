package xpd

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

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

// A removal that is applied before anybody looks is kept, too.
func TestDaemon_remember_removedMeanwhile(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	known, _ := d.raft.State()
	removed := failover.State{Members: d.Members, Gone: []pgcluster.NodeID{"n4"}}
	eventually(t, "a leader", func() bool {
		_, err := d.raft.Barrier(t.Context())
		if err == nil {
			_, base := d.raft.State()
			_, err = d.raft.Save(t.Context(), base, removed)
		}
		if err != nil && !errors.Is(err, failover.ErrNotLeader) && !errors.Is(err, failover.ErrUncertain) {
			t.Fatal(err)
		}
		return err == nil
	})
	d.membership.agreed.Store(&removed) // follow was first
	ctx, cancel := canceled(t)
	ended := make(chan error, 1)
	go func() { ended <- d.remember(ctx, known.Gone) }()
	eventually(t, "a snapshot", func() bool {
		found, err := filepath.Glob(filepath.Join(d.Dir, "raft", "snapshots", "*", "state.bin"))
		return err == nil && len(found) > 0
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("remember() = %v", err)
	}
}

// eventually waits until done reports true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
