package fence

import (
	"testing"
	"time"
)

// A host that was suspended wakes up past the end of the lease: xpd may speak first.
func TestHelper_dueAfterASuspension(t *testing.T) {
	t.Parallel()
	const second = time.Second
	h := &helper{beat: Beat{Fenced: true, Until: 13 * second}, heard: 10 * second, last: 10 * second}
	ticks := func(from, to time.Duration) (due time.Duration) {
		for now := from; now <= to; now += tick {
			if h.due(now) {
				return now
			}
		}
		return 0
	}
	if at := ticks(10*second, 12*second); at > 0 {
		t.Fatalf("due at %v, within the lease", at)
	}
	if at, want := ticks(20*second, 30*second), 20*second+hang; at != want {
		t.Errorf("due at %v, want %v: a second after it woke up", at, want)
	}
	h.beat.Until, h.heard = 40*second, 30*second
	if at := ticks(30*second, 41*second); at != 40*second {
		t.Errorf("due at %v, want it when the next lease ends", at)
	}
	h.closed = true
	if at := ticks(41*second, 50*second); at > 0 {
		t.Errorf("due at %v, though it is closed", at)
	}
}
