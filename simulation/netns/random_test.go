package netns_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// TestFaults_inRandomOrder breaks links and PostgreSQLs, several at a time and
// again before the cluster has healed. What is drawn follows from the seed, which
// XPD_SEED repeats; what comes of it also depends on the machine.
func TestFaults_inRandomOrder(t *testing.T) { //nolint:paralleltest // shares the cluster with the others
	slow(t)
	const long, longer = 2 * time.Minute, 5 * time.Minute
	seed := rand.Uint64N(1_000_000_000)
	if given := os.Getenv("XPD_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("faults by seed %d: XPD_SEED=%[1]d repeats them", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	underLoadBy(t, faulttest.Rules{Patience: longer, Hung: wide}, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, fmt.Sprintf("faults in random order, seed %d", seed), func(ctx context.Context) error {
			for began, round := time.Now(), 1; time.Since(began) < long; round++ {
				if round%3 == 0 { // or each failover would wait longer than the one before
					if err := r.restartAll(draw); err != nil {
						return err
					}
				}
				for range 1 + draw.IntN(3) {
					if err := r.damage(ctx, draw); err != nil {
						return err
					}
				}
				if err := r.Hold(ctx, time.Duration(300+draw.IntN(3500))*time.Millisecond); err != nil {
					return err
				}
				if err := r.Heal(ctx); err != nil {
					return err
				}
				if draw.IntN(2) == 0 {
					if err := r.AwaitEnrolment(ctx, time.Now()); err != nil {
						return err
					}
				}
			}
			return r.repair(ctx, nil)
		})
	})
}

// restartAll kills every xpd and starts it again. What they remember of earlier
// failovers goes with them.
func (r run) restartAll(draw *rand.Rand) error {
	members := r.Cluster.Members()
	draw.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	for _, m := range members {
		if err := errors.Join(r.Cluster.KillXPD(m.ID), r.Cluster.StartNode(m.ID)); err != nil {
			return err
		}
	}
	r.Say("every xpd is killed and started again")
	return nil
}

// damage does one random thing to one or two hosts.
func (r run) damage(ctx context.Context, draw *rand.Rand) error {
	members := r.Cluster.Members()
	draw.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	a, b := members[0].ID, members[1].ID
	faults := []struct {
		name string
		do   func() error
	}{
		{fmt.Sprintf("%s and %s are cut", a, b), func() error { return r.Cut(ctx, a, b) }},
		{fmt.Sprintf("what %s sends to %s is lost", a, b), func() error { return r.CutOneWay(ctx, a, b) }},
		{fmt.Sprintf("%s is partitioned away", a), func() error { return r.Isolate(ctx, a) }},
		{fmt.Sprintf("PostgreSQL of %s is cut", a), func() error { return r.CutPort(ctx, a, pgcluster.DefaultPGPort) }},
		{"a fifth of all packets is lost", func() error { return r.Lose(ctx, 0.2) }},
		{fmt.Sprintf("%s is unplugged", a), func() error { return r.Unplug(ctx, a) }},
		{fmt.Sprintf("PostgreSQL of %s is killed", a), func() error {
			if err := r.Cluster.KillPostgres(a); err != nil {
				r.Say("%v", err) // it does not run just now
			}
			return nil
		}},
		{fmt.Sprintf("xpd of %s is killed and started again", a), func() error {
			return errors.Join(r.Cluster.KillXPD(a), r.Cluster.StartNode(a))
		}},
	}
	fault := faults[draw.IntN(len(faults))]
	r.Say("%s", fault.name)
	return fault.do()
}
