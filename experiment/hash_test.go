package experiment

import (
	"encoding/hex"
	"fmt"
	"math"
	"testing"
)

// The expected numbers were computed with Python's hashlib. They freeze the
// algorithm: another answer would move every unit of every experiment.
func TestHash_golden(t *testing.T) {
	t.Parallel()
	tests := []struct {
		unit          Unit
		key           string
		slot, inOther int
		third         uint64
	}{
		{Unit{"user", "1"}, "789e54d11c4a33cf9a7e16c59a694fe2", 9693, 9312, 2},
		{Unit{"user", "42"}, "0bf96de1c480bc0f04ba19abe67b095b", 9976, 7235, 2},
		{Unit{"device", "a-b-c"}, "b7953d617c2e6b5a6b8a65e01769f0ca", 6548, 6650, 1},
		{Unit{"user", "Zoë"}, "c90e84fcc16280d2bcf4ea46302cd477", 7387, 9386, 2},
		{Unit{"u", "ser1"}, "0adb4df525c82ad00a4a04e93ef3ce09", 7303, 429, 2},
	}
	for _, tt := range tests {
		key := tt.unit.Key()
		if got := hex.EncodeToString(key[:]); got != tt.key {
			t.Errorf("%v.Key() = %s, want %s", tt.unit, got, tt.key)
		}
		if got := (Layer{Salt: []byte("salt")}).slot(tt.unit); got != tt.slot {
			t.Errorf("slot of %v = %d, want %d", tt.unit, got, tt.slot)
		}
		if got := (Layer{Salt: []byte("\x00\xff")}).slot(tt.unit); got != tt.inOther {
			t.Errorf("slot of %v under another salt = %d, want %d", tt.unit, got, tt.inOther)
		}
		if got := draw([]byte("salt"), tt.unit, 3); got != tt.third {
			t.Errorf("draw of %v below 3 = %d, want %d", tt.unit, got, tt.third)
		}
	}
}

// sample is how many sequential ids the statistics below look at.
const sample = 50_000

func sequential(i int) Unit { return Unit{"user", fmt.Sprint(i)} }

func TestDraw_isUniformOnSequentialIDs(t *testing.T) {
	t.Parallel()
	for _, salt := range []string{"a", "b", "layer-1", "layer-2", "\x00"} {
		const bins = 100
		var counts [bins]float64
		for i := range sample {
			counts[draw([]byte(salt), sequential(i), SlotCount)*bins/SlotCount]++
		}
		chi := 0.0
		for _, n := range counts {
			chi += (n - sample/bins) * (n - sample/bins) / (sample / bins)
		}
		if limit := chiSquareLimit(bins - 1); chi > limit {
			t.Errorf("salt %q: chi-square %.1f > %.1f: slots are not uniform", salt, chi, limit)
		}
	}
}

// Salts of two layers, of two experiments, of two runs of one experiment, of an
// experiment and its layer: all of them are pairs of different salts.
func TestDraw_isIndependentBetweenSalts(t *testing.T) {
	t.Parallel()
	salts := []string{"layer-1", "layer-2", "run-1", "run-2", "run-3", "run-10"}
	for i, a := range salts {
		for _, b := range salts[i+1:] {
			const bins = 8
			var counts [bins][bins]float64
			for i := range sample {
				u := sequential(i)
				counts[draw([]byte(a), u, bins)][draw([]byte(b), u, bins)]++
			}
			chi := contingency(counts[:])
			if limit := chiSquareLimit((bins - 1) * (bins - 1)); chi > limit {
				t.Errorf("salts %q and %q: chi-square %.1f > %.1f: draws are not independent", a, b, chi, limit)
			}
		}
	}
}

// Two halves of a salt and an id must not be able to trade bytes.
func TestDraw_separatesItsParts(t *testing.T) {
	t.Parallel()
	whole := draw([]byte("salt"), Unit{"user", "1"}, math.MaxUint64)
	for _, other := range []struct {
		salt string
		unit Unit
	}{
		{"saltu", Unit{"ser", "1"}},
		{"salt", Unit{"user1", ""}},
		{"", Unit{"saltuser", "1"}},
	} {
		if draw([]byte(other.salt), other.unit, math.MaxUint64) == whole {
			t.Errorf("%q %v draws the same as another salt and unit", other.salt, other.unit)
		}
	}
}

// contingency returns the chi-square of independence of rows and columns.
func contingency(counts [][8]float64) float64 {
	var total float64
	var rows, columns [8]float64
	for i := range counts {
		for j, n := range counts[i] {
			rows[i] += n
			columns[j] += n
			total += n
		}
	}
	chi := 0.0
	for i := range counts {
		for j, n := range counts[i] {
			want := rows[i] * columns[j] / total
			chi += (n - want) * (n - want) / want
		}
	}
	return chi
}

// chiSquareLimit returns what a chi-square with df degrees of freedom exceeds once
// in 10,000 times, by the approximation of Wilson and Hilferty.
func chiSquareLimit(df int) float64 {
	const z = 3.719
	k := float64(df)
	c := 1 - 2/(9*k) + z*math.Sqrt(2/(9*k))
	return k * c * c * c
}
