package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover/lease"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// An xpd that hangs renews no lease. Its helper closes the primary, as it was told to,
// and another takes over.
func TestF04_FencedPastTheLease(t *testing.T) { //nolint:paralleltest // see faults_test.go
	slow(t)
	always := func(o *localcluster.Options) {
		o.Flags = map[pgcluster.NodeID][]string{}
		for _, id := range []pgcluster.NodeID{"n1", "n2", "n3"} {
			o.Flags[id] = []string{"--fence", "always"}
		}
	}
	r := own(t, &bed{tune: always}).underLoad(t, faulttest.Rules{}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F4 with --fence=always", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			resume := func() error { return nil }
			began := time.Now()
			err = s.Failover(ctx, func() (err error) {
				resume, err = suspend(s, primary, xpdTitle)
				return err
			})
			if since := time.Since(began); err == nil && since < lease.Length-lease.Interval-time.Second {
				err = fmt.Errorf("PostgreSQL of %s was replaced after %v, within its lease", primary, since)
			}
			left, findErr := processesOf(s, primary, "bin/postgres -D")
			if len(left) > 0 {
				err = errors.Join(err, fmt.Errorf("PostgreSQL of %s was not closed: %v", primary, left))
			}
			s.Repaired()
			return errors.Join(err, findErr, resume())
		})
	})
	faulttest.ExpectMove(t, r, true)
}

// Three of five voters are gone, and with them Raft. The primary and one standby hear
// each other: that is enough to go on, for reads too. Without that standby's xpd writes
// still go on, and reads wait.
func TestF50_RaftMajorityLostForAWhile(t *testing.T) { //nolint:paralleltest // see faults_test.go
	slow(t)
	witnesses := func(o *localcluster.Options) { o.Nodes, o.Witnesses = 5, 2 }
	r := own(t, &bed{tune: witnesses}).underLoad(t, faulttest.Rules{Patience: 3 * time.Minute}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F50 Raft majority lost for a while", func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error { return loseRaft(ctx, s) })
		})
	})
	faulttest.ExpectMove(t, r, false)
}

func loseRaft(ctx context.Context, s *simulation.Session) error {
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	var standbys, gone []pgcluster.NodeID
	for _, m := range s.Cluster.Members() {
		switch {
		case m.Witness:
			gone = append(gone, m.ID)
		case m.ID != primary:
			standbys = append(standbys, m.ID)
		}
	}
	gone = append(gone, standbys[1])
	for _, id := range gone {
		if err := s.Cluster.KillXPD(id); err != nil {
			return err
		}
	}
	witness := standbys[0]
	for node, source := range map[pgcluster.NodeID]string{primary: "quorum", witness: "primary"} {
		if err := soonish(ctx, fmt.Sprintf("%s to renew its lease from the %s", node, source), func() bool {
			_, metrics := s.Cluster.Get(ctx, node, "/metrics")
			line := fmt.Sprintf(`xpd_lease_renewals_total{outcome="renewed",source=%q}`, source)
			return strings.Contains(metrics, line) && !strings.Contains(metrics, line+" 0\n")
		}); err != nil {
			return err
		}
	}
	// Not once in that time may a renewal come too late.
	for began := time.Now(); time.Since(began) < 2*lease.Length; {
		for node, path := range map[pgcluster.NodeID]string{primary: "/primary", witness: "/ready"} {
			if status, text := s.Cluster.Get(ctx, node, path); status != http.StatusOK {
				return fmt.Errorf("%s of %s without Raft: %d %s", path, node, status, text)
			}
		}
		if status, text := s.Cluster.Get(ctx, witness, "/v1/experiments"); status != http.StatusOK {
			return fmt.Errorf("reads at %s without Raft: %d %s", witness, status, text)
		}
		if err := s.Hold(ctx, lease.Interval/5); err != nil {
			return err
		}
	}

	if err := s.Cluster.KillXPD(witness); err != nil {
		return err
	}
	began := time.Now()
	if err := soonish(ctx, "the primary to notice that its lease is over", func() bool {
		status, _ := s.Cluster.Get(ctx, primary, "/primary")
		return status == http.StatusServiceUnavailable
	}); err != nil {
		return err
	}
	s.Say("lease of %s over %v after the last confirmation was possible", primary, time.Since(began).Round(time.Millisecond))
	if status, _ := s.Cluster.Get(ctx, primary, "/readyz"); status != http.StatusServiceUnavailable {
		return fmt.Errorf("/readyz of %s without a lease: %d", primary, status)
	}
	if status, text := s.Cluster.Get(ctx, primary, "/v1/experiments"); status == http.StatusOK {
		return fmt.Errorf("reads at %s without a lease: %d %s", primary, status, text)
	}
	if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
		return fmt.Errorf("writes do not go on without a lease: %w", err)
	}
	s.Repaired()
	for _, id := range append(gone, witness) {
		if err := s.Cluster.StartNode(id); err != nil {
			return err
		}
	}
	return s.Cluster.WaitReady(ctx)
}
