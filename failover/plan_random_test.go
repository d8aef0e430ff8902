package failover_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Whatever the cluster looks like, a plan either chooses one node, which the table of
// nodes marks, or says why not.
func TestPlan_random(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s, v := randomCluster(rng)
		to := []pgcluster.NodeID{"", "n1", "n2", "n9"}[rng.IntN(4)]
		for _, p := range []failover.Plan{failover.PlanFailover(s, v, policy, to), failover.PlanSwitchover(s, v, policy, to)} {
			chosen := 0
			for _, n := range p.Nodes {
				if n.Choice == failover.ChoiceChosen {
					chosen++
				}
				if n.Choice == failover.ChoiceChosen && n.ID != p.To {
					t.Errorf("seed %d: %s is marked in the plan of a %s to %q", seed, n.ID, p.Kind, p.To)
				}
			}
			if (p.To == "") != (p.Refused != "") || (p.To != "") != (chosen == 1) || (p.To != "") != (p.Why != "") {
				t.Errorf("seed %d: %s to %q because %q, refused %q, %d marked", seed, p.Kind, p.To, p.Why, p.Refused, chosen)
			}
		}
	}
}

func randomCluster(rng *rand.Rand) (failover.State, failover.View) {
	s := steadyWith(durable(rng.IntN(3), "n2", "n3"))
	if rng.IntN(2) == 0 {
		s = failing(failover.PhaseRecruit, func(op *failover.Operation) {
			op.InPlace = rng.IntN(3) == 0
			if rng.IntN(3) == 0 {
				op.Forced = &failover.Forced{Reason: "asked for"}
			}
			if rng.IntN(3) == 0 {
				op.Tried = []pgcluster.NodeID{"n2"}
			}
		})
	}
	for i := range s.Members {
		s.Members[i].NoFailover = rng.IntN(5) == 0
		s.Members[i].NoSync = rng.IntN(5) == 0
		s.Members[i].Leaving = rng.IntN(8) == 0
		s.Members[i].Priority = rng.IntN(2)
	}
	changes := []change{
		func(*pgcluster.Report) {}, crashed, stopped, hangs, deaf, empty, pledged(2), at(90), at(110),
		func(r *pgcluster.Report) { r.SystemID = "8" }, func(r *pgcluster.Report) { r.PositionKnown = false },
		func(r *pgcluster.Report) { r.Senders = nil },
	}
	some := func() change { return changes[rng.IntN(len(changes))] }
	v := see(primary(some(), some()), standby("n2", some(), some()), standby("n3", some(), some()))
	for _, id := range []pgcluster.NodeID{"n1", "n2", "n3"} {
		if o := v.Reports[id]; rng.IntN(4) == 0 {
			o.At -= time.Duration(rng.IntN(20)) * time.Second
			v.Reports[id] = o
		}
	}
	return s, waited(v, time.Duration(rng.IntN(5))*time.Second)
}
