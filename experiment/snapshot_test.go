package experiment

import (
	"math/rand/v2"
	"testing"
)

// TestSnapshot_owner compares every slot with a search through all ranges.
func TestSnapshot_owner(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		es := make([]Experiment, 3)
		want := [SlotCount]string{}
		for i := range es {
			es[i] = Experiment{
				Definition: Definition{Key: string(rune('a' + i)), Layer: "page"},
				State:      StateRunning, Run: &Run{ID: int32(i)},
			}
		}
		for from := 0; from < SlotCount; {
			to := min(from+1+rng.IntN(300), SlotCount)
			if i := rng.IntN(4); i < len(es) {
				es[i].Slots = append(es[i].Slots, SlotRange{from, to})
				for slot := from; slot < to; slot++ {
					want[slot] = es[i].Key
				}
			}
			from = to
		}
		s, err := NewSnapshot(1, []Layer{{Key: "page", UnitType: "user"}}, es)
		if err != nil {
			t.Fatal(err)
		}
		for slot := range SlotCount {
			got := ""
			if e := s.layers[0].owner(slot); e != nil {
				got = e.Key
			}
			if got != want[slot] {
				t.Fatalf("seed %d: slot %d belongs to %q, want %q", seed, slot, got, want[slot])
			}
		}
	}
}
