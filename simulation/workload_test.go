package simulation

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/experiment"
)

func TestWorkload_isAFunctionOfItsSeed(t *testing.T) {
	t.Parallel()
	take := func(seed uint64) []arrival {
		w := newWorkload(seed, 300)
		out := make([]arrival, 1000)
		for i := range out {
			out[i] = w.next()
		}
		return out
	}
	if diff := cmp.Diff(take(7), take(7), cmp.AllowUnexported(arrival{})); diff != "" {
		t.Errorf("two streams of one seed differ:\n%s", diff)
	}
	if cmp.Equal(take(7), take(8), cmp.AllowUnexported(arrival{})) {
		t.Error("streams of two seeds are equal")
	}
}

func TestWorkload_keepsItsShares(t *testing.T) {
	t.Parallel()
	const n, rate = 100_000, 300
	w := newWorkload(1, rate)
	counts := make(map[kind]int)
	events := map[experiment.EventID]bool{}
	var last arrival
	for range n {
		a := w.next()
		if a.at < last.at {
			t.Fatalf("arrival at %s follows one at %s", a.at, last.at)
		}
		if a.kind == kindNew && a.unit != counts[kindNew] {
			t.Fatalf("new unit %d, want %d: units count up", a.unit, counts[kindNew])
		}
		if a.kind != kindNew && a.unit >= counts[kindNew] {
			t.Fatalf("%s of unit %d, which nobody has seen", a.kind, a.unit)
		}
		if a.kind == kindPurchase {
			if _, err := experiment.ParseEventID(a.event.String()); err != nil || events[a.event] || a.discounts > a.itemsTotal {
				t.Fatalf("purchase %+v (%v): want a fresh UUID and discounts within the total", a, err)
			}
			events[a.event] = true
		}
		counts[a.kind]++
		last = a
	}
	treatments := float64(counts[kindNew] + counts[kindReturning])
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"treatments per second", treatments / last.at.Seconds(), rate},
		{"share of new units", float64(counts[kindNew]) / treatments, newShare},
		{"exposures for a request for treatments", float64(counts[kindExposure]) / treatments, exposeShare},
		{"purchases for a request for treatments", float64(counts[kindPurchase]) / treatments, buyShare},
	} {
		if math.Abs(tt.got/tt.want-1) > 0.05 {
			t.Errorf("%s: %g, want about %g", tt.name, tt.got, tt.want)
		}
	}
}

// The gaps between Poisson arrivals are as long as their standard deviation.
func TestPings_arriveAtRandom(t *testing.T) {
	t.Parallel()
	const n, rate = 20_000, 100
	p := newPings(1, rate)
	var last time.Duration
	var sum, squares float64
	for range n {
		a := p.next()
		gap := (a.at - last).Seconds()
		last = a.at
		sum += gap
		squares += gap * gap
	}
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	if math.Abs(mean*rate-1) > 0.05 || math.Abs(deviation*rate-1) > 0.05 {
		t.Errorf("gaps have mean %g s and deviation %g s, want both about %g s", mean, deviation, 1.0/rate)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	thousand := make([]time.Duration, 1000)
	for i := range thousand {
		thousand[i] = time.Duration(i + 1)
	}
	tests := []struct {
		name   string
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{"nothing", nil, 0.5, 0},
		{"one value", []time.Duration{7}, 0.999, 7},
		{"the middle of three", []time.Duration{1, 2, 9}, 0.5, 2},
		{"the lower middle of four", []time.Duration{1, 2, 9, 10}, 0.5, 2},
		{"p99.9 of a thousand leaves one above", thousand, 0.999, 999},
		{"p99 of a thousand leaves ten above", thousand, 0.99, 990},
		{"the maximum", thousand, 1, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := quantile(tt.sorted, tt.p); got != tt.want {
				t.Errorf("quantile(%g) = %d, want %d", tt.p, got, tt.want)
			}
		})
	}
}

func TestRecorder_tellsDisturbedFromCalm(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var r recorder
	for _, s := range []sample{
		{kindNew, at(50), 1 * time.Millisecond},    // warm-up
		{kindNew, at(150), 2 * time.Millisecond},   // calm
		{kindNew, at(190), 500 * time.Millisecond}, // was due before the disturbance and ended in it
		{kindNew, at(300), 3 * time.Millisecond},   // in it
		{kindNew, at(401), 4 * time.Millisecond},   // calm again
		{kindPing, at(402), 9 * time.Millisecond},  // of another kind
	} {
		r.add(s)
	}
	outside, during := r.split(at(100), []window{{at(200), at(400)}}, kindNew)
	ms := func(n int) Millis { return Millis(time.Duration(n) * time.Millisecond) }
	want := []Latency{
		{Count: 2, P50: ms(2), P99: ms(4), P999: ms(4), Max: ms(4)},
		{Count: 2, P50: ms(3), P99: ms(500), P999: ms(500), Max: ms(500)},
	}
	if diff := cmp.Diff(want, []Latency{outside, during}); diff != "" {
		t.Errorf("split() (-want +got):\n%s", diff)
	}
}

func TestPauses_sumUpEachKind(t *testing.T) {
	t.Parallel()
	var r Report
	for i, ms := range []int{30, 900, 10, 700, 20} {
		r.Disturbances = append(r.Disturbances, Disturbance{
			Name: []string{"a", "b"}[i%2], Pause: Millis(time.Duration(ms) * time.Millisecond),
		})
	}
	want := []Pause{
		{Name: "a", Rounds: 3, P50: Millis(20 * time.Millisecond), Max: Millis(30 * time.Millisecond)},
		{Name: "b", Rounds: 2, P50: Millis(700 * time.Millisecond), Max: Millis(900 * time.Millisecond)},
	}
	if diff := cmp.Diff(want, r.Pauses()); diff != "" {
		t.Errorf("Pauses() (-want +got):\n%s", diff)
	}
}

func TestShop_coversItsLayers(t *testing.T) {
	t.Parallel()
	covered := map[string]int{}
	for _, d := range shop() {
		for _, r := range d.Slots {
			covered[d.Layer] += r.To - r.From
		}
	}
	if len(shop()) != 3 || len(covered) != 2 {
		t.Errorf("%d experiments in %d layers, want 3 in 2", len(shop()), len(covered))
	}
	for layer, n := range covered {
		if n != experiment.SlotCount {
			t.Errorf("layer %s has %d slots in use, want all: a new unit must lead to a write", layer, n)
		}
	}
	layers := []string{Samples()[0].Layer, Samples()[1].Layer}
	slices.Sort(layers)
	if len(slices.Compact(layers)) != 2 {
		t.Error("the samples are not in two layers")
	}
}
