package access

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Wrong tokens that one source may send: so many at once, then one per period.
const (
	failBurst  = 10
	failPeriod = time.Second
)

// maxSources bounds what is remembered. The oldest goes first: who has that many
// addresses is not held up, and still guesses 256 bits.
const maxSources = 4096

// limiter counts wrong tokens by where they come from.
type limiter struct {
	mu     sync.Mutex
	failed *simplelru.LRU[netip.Prefix, bucket]
}

func newLimiter() *limiter {
	// The size is a constant above zero: that gives no error.
	failed, err := simplelru.NewLRU[netip.Prefix, bucket](maxSources, nil)
	if err != nil {
		panic(err)
	}
	return &limiter{failed: failed}
}

// SourceOf returns what is counted as one source: an address, or the network of one
// host in IPv6, where everybody has 2^64 addresses.
func SourceOf(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: they count as one
	}
	return p
}

// fail counts a wrong token, and returns for how long from was to send none, or 0.
func (l *limiter) fail(from netip.Addr, now time.Time) time.Duration {
	src := SourceOf(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	b, _ := l.failed.Get(src)
	wait := b.take(now, failBurst, failPeriod)
	l.failed.Add(src, b)
	return wait
}

// bucket counts what happened too often: burst at once, and one more per period. Zero
// is a bucket that nothing was taken from.
type bucket struct {
	empty time.Time // when all that was taken is forgotten
}

// wait returns how long it takes until something may be taken.
func (b *bucket) wait(now time.Time, burst int, period time.Duration) time.Duration {
	full := now.Add(time.Duration(burst-1) * period)
	return max(0, b.empty.Sub(full))
}

// take takes one, or returns how long it takes until that is allowed.
func (b *bucket) take(now time.Time, burst int, period time.Duration) time.Duration {
	if wait := b.wait(now, burst, period); wait > 0 {
		return wait
	}
	if b.empty.Before(now) {
		b.empty = now
	}
	b.empty = b.empty.Add(period)
	return 0
}
