package experiment_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/experiment"
)

// history is a seeded run of requests and edits against a store in memory.
type history struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	now   time.Time
	es    []experiment.Experiment
	snap  *experiment.Snapshot
	rows  map[experiment.Unit][]experiment.Assignment
	acked map[ack]string
}

type ack struct {
	unit experiment.Unit
	run  int32
}

// TestAssign_invariants runs many seeded random histories. A failure names its
// seed; run only that seed to replay it.
func TestAssign_invariants(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		h := &history{
			t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), now: epoch,
			rows: map[experiment.Unit][]experiment.Assignment{}, acked: map[ack]string{},
			es: []experiment.Experiment{
				running(1, "a", "page", 0, 4000), running(2, "b", "page", 4000, 8000), running(3, "c", "page", 8000, 9000),
				running(4, "d", "price", 0, 9000),
			},
		}
		for range 200 {
			if h.rng.IntN(10) == 0 {
				h.edit()
			}
			h.now = h.now.Add(time.Duration(h.rng.IntN(600)) * time.Second)
			h.request()
			if t.Failed() {
				return
			}
		}
	}
}

// edit revises or moves one experiment as a user may.
func (h *history) edit() {
	i := h.rng.IntN(len(h.es))
	e := h.es[i]
	if h.rng.IntN(4) == 0 {
		to := []experiment.State{experiment.StatePaused, experiment.StateRunning, experiment.StateStopped}[h.rng.IntN(3)]
		if to == experiment.StateStopped && h.rng.IntN(4) > 0 {
			return // keep most of them alive
		}
		if e.MoveTo(to, h.now) == nil {
			h.es[i] = e
		}
		h.snap = nil
		return
	}
	d := e.Definition
	d.Treatments = slices.Clone(d.Treatments)
	switch h.rng.IntN(4) {
	case 0:
		d.Treatments[h.rng.IntN(len(d.Treatments))].Weight = h.rng.IntN(4)
	case 1:
		from := h.rng.IntN(experiment.SlotCount)
		d.Slots = []experiment.SlotRange{{From: from, To: from + 1 + h.rng.IntN(experiment.SlotCount-from)}}
	case 2:
		start := h.now.Add(time.Duration(h.rng.IntN(4)-2) * time.Hour)
		end := start.Add(time.Duration(1+h.rng.IntN(3)) * time.Hour)
		d.Start, d.End = &start, &end
	case 3:
		d.Treatments = append(d.Treatments, experiment.Treatment{Key: string(rune('e' + len(d.Treatments))), Weight: 1})
	}
	revised, err := e.Revise(d, h.now)
	if err != nil || revised.CheckSlots(h.es) != nil {
		return
	}
	h.es[i], h.snap = revised, nil
}

func (h *history) request() {
	if h.snap == nil {
		h.snap = snapshot(h.t, 1, h.es...)
	}
	u := unit(h.rng.IntN(40))
	before := h.rows[u]
	decisions, fresh := h.snap.Assign(u, before, nil, h.now)
	h.checkOrder(u, decisions, fresh)
	h.rows[u] = append(before, fresh...)
	h.checkFresh(u, fresh)
	h.checkAcked(u, decisions)
	h.checkClaims(u)
}

// checkOrder checks P6: any order and any split of one request gives the same
// decisions and rows.
func (h *history) checkOrder(u experiment.Unit, want []experiment.Decision, wantFresh []experiment.Assignment) {
	rows := slices.Clone(h.rows[u])
	known := len(rows)
	var got []experiment.Decision
	keys := []string{}
	for _, d := range want {
		keys = append(keys, d.Experiment)
	}
	h.rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for len(keys) > 0 {
		n := 1 + h.rng.IntN(len(keys))
		ds, fresh := h.snap.Assign(u, rows, keys[:n], h.now)
		got, rows, keys = append(got, ds...), append(rows, fresh...), keys[n:]
	}
	slices.SortFunc(got, func(a, b experiment.Decision) int { return cmp.Compare(a.Experiment, b.Experiment) })
	if diff := gocmp.Diff(want, got); diff != "" {
		h.t.Errorf("seed %d: P6: split and shuffled (-whole +split):\n%s", h.seed, diff)
	}
	if len(rows)-known != len(wantFresh) {
		h.t.Errorf("seed %d: P6: %d fresh rows when split, %d as a whole", h.seed, len(rows)-known, len(wantFresh))
	}
}

// checkFresh checks P4: nobody new gets a closed treatment, and nobody enrols
// where the state or the schedule says no.
func (h *history) checkFresh(u experiment.Unit, fresh []experiment.Assignment) {
	for _, a := range fresh {
		e := h.experiment(a.RunID)
		i := slices.IndexFunc(e.Treatments, func(t experiment.Treatment) bool { return t.No == a.Treatment })
		if e.Treatments[i].Weight == 0 {
			h.t.Errorf("seed %d: P4: unit %v got the closed treatment %q", h.seed, u, e.Treatments[i].Key)
		}
		if e.State != experiment.StateRunning || e.Start != nil && h.now.Before(*e.Start) || e.End != nil && !h.now.Before(*e.End) {
			h.t.Errorf("seed %d: unit %v was enrolled by %q outside of its time", h.seed, u, e.Key)
		}
	}
}

// checkAcked checks P1 and P2: whatever was edited, a live experiment answers what
// it answered before. It checks P11: an answer without a treatment leaves no row.
func (h *history) checkAcked(u experiment.Unit, decisions []experiment.Decision) {
	for _, d := range decisions {
		i := slices.IndexFunc(h.es, func(e experiment.Experiment) bool { return e.Key == d.Experiment })
		k := ack{u, h.es[i].Run.ID}
		if told, ok := h.acked[k]; ok && told != d.Treatment {
			h.t.Errorf("seed %d: P1: unit %v of %q was told %q, now %q (%s)", h.seed, u, d.Experiment, told, d.Treatment, d.Reason)
		}
		stored := slices.ContainsFunc(h.rows[u], func(a experiment.Assignment) bool { return a.RunID == k.run })
		if assigned := d.Reason == experiment.ReasonAssigned; assigned != stored {
			h.t.Errorf("seed %d: P11: unit %v of %q: %s, row stored: %t", h.seed, u, d.Experiment, d.Reason, stored)
		} else if assigned {
			h.acked[k] = d.Treatment
		}
	}
}

// checkClaims checks P5: at most one live claim per unit and layer.
func (h *history) checkClaims(u experiment.Unit) {
	claims := map[string]string{}
	for _, a := range h.rows[u] {
		e := h.experiment(a.RunID)
		if !e.State.Live() {
			continue
		}
		if other, ok := claims[e.Layer]; ok {
			h.t.Errorf("seed %d: P5: unit %v is in %q and %q of layer %q", h.seed, u, other, e.Key, e.Layer)
		}
		claims[e.Layer] = e.Key
	}
}

func (h *history) experiment(run int32) experiment.Experiment {
	return h.es[slices.IndexFunc(h.es, func(e experiment.Experiment) bool { return e.Run.ID == run })]
}

// TestAssign_moreTrafficOnlyAdds checks P3, and P7: the store is empty each time.
func TestAssign_moreTrafficOnlyAdds(t *testing.T) {
	t.Parallel()
	was := map[int]string{}
	for _, traffic := range []int{100, 1000, 5000, experiment.SlotCount} {
		s := snapshot(t, 1, running(1, "a", "page", 0, traffic))
		enrolled := 0
		for i := range 10_000 {
			d, _ := s.Assign(unit(i), nil, nil, epoch)
			if told, ok := was[i]; ok && told != d[0].Treatment {
				t.Fatalf("with %d slots unit %d got %q, with fewer %q", traffic, i, d[0].Treatment, told)
			}
			if d[0].Treatment != "" {
				was[i] = d[0].Treatment
				enrolled++
			}
		}
		if off := enrolled - traffic; off*off > 9*10_000 {
			t.Errorf("%d of 10,000 units are enrolled with %d slots", enrolled, traffic)
		}
	}
}

// TestAssign_followsWeights checks the shares, and P8: a new run draws anew.
func TestAssign_followsWeights(t *testing.T) {
	t.Parallel()
	const n = 40_000
	first, second := running(1, "a", "page", 0, experiment.SlotCount), running(2, "a", "page", 0, experiment.SlotCount)
	first.Treatments[1].Weight, second.Treatments[1].Weight = 3, 3
	s1, s2 := snapshot(t, 1, first), snapshot(t, 1, second)
	var counts [2][2]float64
	for i := range n {
		_, a := s1.Assign(unit(i), nil, nil, epoch)
		_, b := s2.Assign(unit(i), nil, nil, epoch)
		counts[a[0].Treatment][b[0].Treatment]++
	}
	chi := 0.0
	for i, row := range []float64{0.25, 0.75} {
		for j, column := range []float64{0.25, 0.75} {
			want := n * row * column
			chi += (counts[i][j] - want) * (counts[i][j] - want) / want
		}
	}
	if chi > 21.1 { // 3 degrees of freedom, once in 10,000
		t.Errorf("chi-square %.1f: shares are not 1:3 in each run or the runs depend on each other: %v", chi, counts)
	}
}
