package simulation

import (
	"encoding/json"
	"math"
	"slices"
	"sync"
	"time"
)

// sample is one request that was answered.
type sample struct {
	kind kind
	due  time.Time
	took time.Duration // from due until answered, not from sent
}

// window is a stretch of time.
type window struct{ from, to time.Time }

// touches reports whether the request of s was under way during w.
func (w window) touches(s sample) bool {
	return s.due.Before(w.to) && s.due.Add(s.took).After(w.from)
}

// recorder keeps every sample: a few minutes of load are some megabytes, and what
// counts as disturbed is known only afterwards.
type recorder struct {
	mu      sync.Mutex
	samples []sample
}

func (r *recorder) add(s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, s)
}

// split summarises the samples of the kinds, those from measured on that no
// disturbance touched and those that one did.
func (r *recorder) split(measured time.Time, disturbances []window, kinds ...kind) (outside, during Latency) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var calm, disturbed []time.Duration
	for _, s := range r.samples {
		switch {
		case !slices.Contains(kinds, s.kind):
		case slices.ContainsFunc(disturbances, func(w window) bool { return w.touches(s) }):
			disturbed = append(disturbed, s.took)
		case !s.due.Before(measured):
			calm = append(calm, s.took)
		}
	}
	return summarise(calm), summarise(disturbed)
}

// Latency sums up how long requests took from the moment they were due.
type Latency struct {
	Count int    `json:"count"`
	P50   Millis `json:"p50_ms"`
	P99   Millis `json:"p99_ms"`
	P999  Millis `json:"p999_ms"`
	Max   Millis `json:"max_ms"`
}

// Millis is a duration that JSON shows in milliseconds.
type Millis time.Duration

// MarshalJSON writes milliseconds with their microseconds.
func (m Millis) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(m).Microseconds()) / 1000)
}

// summarise sorts took.
func summarise(took []time.Duration) Latency {
	slices.Sort(took)
	return Latency{
		Count: len(took),
		P50:   Millis(quantile(took, 0.5)), P99: Millis(quantile(took, 0.99)),
		P999: Millis(quantile(took, 0.999)), Max: Millis(quantile(took, 1)),
	}
}

// quantile returns the smallest value that is at least as large as the share p of
// all, 0 if there is none.
func quantile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	const rounding = 1e-9 // 0.999 × 1000 is a little more than 999
	rank := int(math.Ceil(p*float64(len(sorted)) - rounding))
	return sorted[max(rank, 1)-1]
}
