package fence_test

import (
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/fence"
)

func TestBeat_Due(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := []struct {
		name              string
		beat              fence.Beat
		now, heard, awake time.Duration
		want              bool
	}{
		{"the lease lasts", fence.Beat{Fenced: true, Until: 13 * s}, 12999 * time.Millisecond, 10 * s, 0, false},
		{"the lease is over, and xpd silent", fence.Beat{Fenced: true, Until: 13 * s}, 13 * s, 10 * s, 0, true},
		{"the lease is over, but xpd speaks", fence.Beat{Fenced: true, Until: 13 * s}, 20 * s, 19500 * time.Millisecond, 0, false},
		{"xpd was silent for a moment", fence.Beat{Fenced: true, Until: 5 * s}, 20 * s, 19 * s, 0, true},
		{"the quorum protects", fence.Beat{Primary: true, Until: 13 * s}, time.Hour, 10 * s, 0, false},
		{"the helper did not run either", fence.Beat{Fenced: true, Until: 13 * s}, 20 * s, 10 * s, 19500 * time.Millisecond, false},
		{"the helper has been running again for long enough", fence.Beat{Fenced: true, Until: 13 * s}, 20500 * time.Millisecond, 10 * s, 19500 * time.Millisecond, true},
		{"no lease was ever held", fence.Beat{Fenced: true}, 20 * s, 10 * s, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.beat.Due(tt.now, tt.heard, tt.awake); got != tt.want {
				t.Errorf("Due(%v, %v, %v) of %+v = %t, want %t", tt.now, tt.heard, tt.awake, tt.beat, got, tt.want)
			}
		})
	}
}
