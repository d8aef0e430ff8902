package pool

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestReach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r reach
		check := func(want time.Duration, wantTried bool) {
			t.Helper()
			if got, tried := r.lost(); got != want || tried != wantTried {
				t.Errorf("lost() = %v, %v; want %v, %v", got, tried, want, wantTried)
			}
		}
		check(0, false)
		r.note(false)
		time.Sleep(time.Second)
		r.note(false)
		time.Sleep(time.Second)
		check(2*time.Second, true) // from the first failure on
		r.note(true)
		check(0, true)
		r.note(false)
		check(0, true)
		time.Sleep(time.Second)
		check(time.Second, true)
	})
}
