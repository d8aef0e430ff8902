package netns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// As TestF12_cutFromBothStandbysOnly, by links that are cut as a whole: the leader is a
// witness, which everybody reaches.
func TestF12_cutFromBothStandbysButNotFromTheWitness(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	if err := shared.close(); err != nil { // one cluster at a time
		t.Fatal(err)
	}
	b := &bed{witnesses: 1}
	t.Cleanup(b.remove)
	report := b.underLoad(t, faulttest.Rules{Hung: wide}, func(ctx context.Context, r run) error {
		witness := r.Cluster.Members()[dataNodes].ID
		if err := r.lead(ctx, witness); err != nil {
			return err
		}
		return r.Disturb(ctx, "F12 primary cut from both standbys, not from the witness that leads", func(ctx context.Context) error {
			primary, standbys, err := r.Roles(ctx)
			if err != nil {
				return err
			}
			standbys = slices.DeleteFunc(standbys, func(id pgcluster.NodeID) bool { return id == witness })
			err = r.Failover(ctx, func() error {
				return errors.Join(r.Cut(ctx, primary, standbys[0]), r.Cut(ctx, primary, standbys[1]))
			})
			if err != nil {
				return err
			}
			return r.repair(ctx, nil)
		})
	})
	faulttest.ExpectMove(t, report, true)
}

// lead makes id the leader of Raft: until it is, nobody else may ask for votes.
func (r run) lead(ctx context.Context, id pgcluster.NodeID) error {
	for _, from := range r.Cluster.Members() {
		for _, to := range r.Cluster.Members() {
			if from.ID != id && from.ID != to.ID {
				if err := r.Block(ctx, from.ID, pgcluster.DefaultRaftPort, to.ID); err != nil {
					return err
				}
			}
		}
	}
	tick := time.NewTicker(pollPace)
	defer tick.Stop()
	for {
		st, err := r.Client.Cluster(ctx)
		if err != nil {
			return err
		}
		if st.Leader == id {
			return r.Unblock(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to lead: %w", id, ctx.Err())
		case <-tick.C:
		}
	}
}
