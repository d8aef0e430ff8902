package netns_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/lease"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// Nobody can speak Raft, while PostgreSQL and HTTP pass: the primary stays open, for
// reads too, by the word of the standbys.
func TestF50_raftCutEverywhere(t *testing.T) { //nolint:paralleltest // they share hosts
	slow(t)
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F50 Raft's port cut between all hosts", func(ctx context.Context) error {
			primary, standbys, err := r.Roles(ctx)
			if err != nil {
				return err
			}
			return r.withoutFailover(ctx, func() error {
				for _, m := range r.Cluster.Members() {
					if err := r.CutPort(ctx, m.ID, pgcluster.DefaultRaftPort); err != nil {
						return err
					}
				}
				return r.leasedByQuorum(ctx, primary, standbys)
			})
		})
	})
	faulttest.ExpectMove(t, report, false)
}

// leasedByQuorum waits until the primary's lease comes from the standbys and theirs
// from the primary, and checks that no node is without one for a while.
func (r run) leasedByQuorum(ctx context.Context, primary pgcluster.NodeID, standbys []pgcluster.NodeID) error {
	sources := map[pgcluster.NodeID]string{primary: "quorum"}
	for _, id := range standbys {
		sources[id] = "primary"
	}
	for node, source := range sources {
		line := fmt.Sprintf(`xpd_lease_renewals_total{outcome="renewed",source=%q}`, source)
		for {
			if _, metrics := r.Cluster.Get(ctx, node, "/metrics"); strings.Contains(metrics, line) && !strings.Contains(metrics, line+" 0\n") {
				break
			}
			if err := r.Hold(ctx, pollPace); err != nil {
				return fmt.Errorf("wait until %s renews its lease from the %s: %w", node, source, err)
			}
		}
	}
	for began := time.Now(); time.Since(began) < 2*lease.Length; {
		for node := range sources {
			if status, text := r.Cluster.Get(ctx, node, "/ready"); status != http.StatusOK {
				return fmt.Errorf("/ready of %s without Raft: %d %s", node, status, text)
			}
		}
		if status, text := r.Cluster.Get(ctx, primary, "/primary"); status != http.StatusOK {
			return fmt.Errorf("/primary of %s without Raft: %d %s", primary, status, text)
		}
		if err := r.Hold(ctx, lease.Interval/5); err != nil {
			return err
		}
	}
	return nil
}

// A primary that is cut off stops to call itself one when its lease ends.
func TestF10_isolatedPrimarySaysSo(t *testing.T) { //nolint:paralleltest // they share hosts
	slow(t)
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F10 primary isolated, and asked whether it is one", func(ctx context.Context) error {
			primary, _, err := r.Roles(ctx)
			if err != nil {
				return err
			}
			if status, text := r.Cluster.Get(ctx, primary, "/primary"); status != http.StatusOK {
				return fmt.Errorf("/primary of %s: %d %s", primary, status, text)
			}
			epoch, err := r.Epoch(ctx)
			if err != nil {
				return err
			}
			began := time.Now()
			if err := r.Isolate(ctx, primary); err != nil {
				return err
			}
			for _, path := range []string{"/primary", "/readyz"} {
				for {
					late := time.Since(began) - lease.Length
					status, _ := r.Cluster.Get(ctx, primary, path)
					if status == http.StatusServiceUnavailable {
						break
					}
					if status == http.StatusOK && late > lease.Interval {
						return fmt.Errorf("%s of %s is still %d, %v after its lease must have ended", path, primary, status, late)
					}
					if err := r.Hold(ctx, pollPace); err != nil {
						return err
					}
				}
				r.Say("%s of %s says no %v after the cut", path, primary, time.Since(began).Round(time.Millisecond))
			}
			if status, text := r.Cluster.Get(ctx, primary, "/v1/experiments"); status == http.StatusOK {
				return fmt.Errorf("reads at %s without a lease: %s", primary, text)
			}
			if _, err := r.Cluster.WaitStatus(ctx, "another epoch is open", func(st failover.Status) bool {
				return st.Epoch > epoch && st.Level != failover.LevelNoWrites
			}); err != nil {
				return err
			}
			return r.repair(ctx, nil)
		})
	})
	faulttest.ExpectMove(t, report, true)
}
