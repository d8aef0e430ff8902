package lease

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Length is for how long a lease is granted, and Interval how often it is renewed.
const (
	Length   = 3 * time.Second
	Interval = 500 * time.Millisecond
)

// Lease is a lease as its holder sees it. The zero value is over.
type Lease struct {
	Epoch  uint64
	Until  time.Duration // by Boottime
	Alone  bool          // the primary acknowledges without a standby
	Source pgcluster.GrantSource
}

// Renewed returns the lease after a grant that was asked for at a moment. Grants may
// arrive in any order, so one never shortens a lease of its epoch, and one of an
// epoch that has passed changes nothing.
func (l Lease) Renewed(asked time.Duration, g pgcluster.Grant) Lease {
	next := Lease{Epoch: g.Epoch, Until: asked + min(max(g.For, 0), Length), Alone: g.Alone, Source: g.Source}
	switch {
	case g.Epoch > l.Epoch:
		return next
	case g.Epoch < l.Epoch:
		return l
	case next.Until < l.Until:
		l.Alone = l.Alone || g.Alone // which of them is the newer is not known
		return l
	}
	return next
}

// Left returns how much is left of a lease of epoch at a moment; 0 if it is over or
// of another epoch.
func (l Lease) Left(now time.Duration, epoch uint64) time.Duration {
	if epoch != l.Epoch {
		return 0
	}
	return max(0, l.Until-now)
}

// Boottime returns the time since the host was started, with the time for which it
// was suspended.
func Boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("lease: CLOCK_BOOTTIME: " + err.Error()) // in every Linux since 2.6.39
	}
	return time.Duration(t.Nano())
}
