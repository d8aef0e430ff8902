package pool_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/xpd-platform/xpd/internal/pgtest"
)

// A node that is added is connected to, one that is removed is not any more, and
// work that waits for a node which comes later finds it.
func TestSetMembers(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 2)
	p := start(t, c)
	all := c.Members()

	p.SetMembers(all[:1])
	c.WaitUntil(1, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'xpd-pool'")
	if got, err := testutil.GatherAndCount(p.reg, "xpd_pool_connections"); err != nil || got != 1 {
		t.Errorf("series of connections = %d, %v, want one for the node that is left", got, err)
	}

	c.Promote(1)
	p.Retarget(target(1, c, 1))
	done := make(chan error, 1)
	go func() { done <- p.Do(t.Context(), write(1, nil)) }()
	witness := all[0]
	witness.ID, witness.Witness = "n9", true
	p.SetMembers(append(all, witness))
	if err := <-done; err != nil {
		t.Fatalf("Do() on the node that was added = %v", err)
	}
	c.WaitUntil(1, "SELECT count(*) >= $1 FROM pg_stat_activity WHERE application_name = 'xpd-pool'", minConns)
	if got, err := testutil.GatherAndCount(p.reg, "xpd_pool_connections"); err != nil || got != 2 {
		t.Errorf("series of connections = %d, %v, want none for the witness", got, err)
	}
}
