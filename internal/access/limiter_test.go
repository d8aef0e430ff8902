package access

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var epoch = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// TestLimiter counts how many wrong tokens of one source are called wrong.
func TestLimiter(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	stranger, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	count := func(from netip.Addr, at time.Duration, tries int) (n int) {
		for range tries {
			if l.fail(from, epoch.Add(at)) == 0 {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		from  netip.Addr
		at    time.Duration
		tries int
		want  int
	}{
		{stranger, 0, 100, failBurst},
		{other, 0, 3, 3},
		{stranger, 900 * time.Millisecond, 10, 0},
		{stranger, failPeriod, 10, 1},
		{stranger, 5 * failPeriod, 10, 4},
		{other, 5 * failPeriod, 100, failBurst},
		{stranger, time.Hour, 100, failBurst}, // no more than that is saved up
		{stranger, time.Hour - time.Minute, 100, 0},
	} {
		if got := count(step.from, step.at, step.tries); got != step.want {
			t.Errorf("%d guesses from %s after %v: %d were told so, want %d", step.tries, step.from, step.at, got, step.want)
		}
	}
	if got := l.fail(stranger, epoch.Add(time.Hour)); got != failPeriod {
		t.Errorf("wait = %v, want %v", got, failPeriod)
	}
}

func TestLimiter_countsNetworksOfIPv6(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	n := 0
	for i := range 100 {
		if l.fail(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)), epoch) == 0 {
			n++
		}
	}
	if n != failBurst {
		t.Errorf("%d guesses from a hundred addresses of one host, want %d", n, failBurst)
	}
	if wait := l.fail(netip.MustParseAddr("2001:db8:0:1::1"), epoch); wait > 0 {
		t.Errorf("the neighbour's network waits %v, want 0", wait)
	}
}

// TestLimiter_isBounded has a stranger of many addresses try to fill the memory.
func TestLimiter_isBounded(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	for range 3 * maxSources {
		var a [16]byte
		_, _ = rand.Read(a[:])
		l.fail(netip.AddrFrom16(a), epoch)
	}
	if got := l.failed.Len(); got != maxSources {
		t.Errorf("%d sources are remembered, want %d", got, maxSources)
	}
}

func TestSourceOf(t *testing.T) {
	t.Parallel()
	if got := SourceOf(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("SourceOf(no address) = %v", got)
	}
}

// TestSame changes single bits, in digests of all sorts of words.
func TestSame(t *testing.T) {
	t.Parallel()
	const ones = ^uint64(0)
	words := []uint64{0, ones, 1, 1 << 63, 0x0123456789abcdef}
	n := uint64(len(words))
	for i := range n * n * n * n {
		d := digest{words[i%n], words[i/n%n], words[i/n/n%n], words[i/n/n/n]}
		if o := d; d.same(&o) != 1 {
			t.Fatalf("%x is not the same as itself", d)
		}
		for bit := range 256 {
			o := d
			o[bit/64] ^= 1 << (bit % 64)
			if d.same(&o) != 0 || o.same(&d) != 0 {
				t.Fatalf("%x is the same as %x", d, o)
			}
		}
	}
}

// TestFind_comparesWithAll measures that the time to find a token does not depend on
// where it is. Its limit is far from what noise can do to a minimum of many tries, and
// far below the thousandfold difference of a search that stops when it has found.
func TestFind_comparesWithAll(t *testing.T) { //nolint:paralleltest // it measures time
	s := &set{entries: make([]Entry, MaxTokens), digests: make([]digest, MaxTokens)}
	for i := range s.entries {
		s.entries[i].Name = fmt.Sprint(i)
		s.digests[i] = digestOf(s.entries[i].Name)
	}
	last := fmt.Sprint(MaxTokens - 1)
	took := []time.Duration{time.Hour, time.Hour, time.Hour}
	for range 300 { // in turn, so that what else the machine does falls on each of them
		for i, token := range []string{"0", last, "stranger"} {
			d := digestOf(token)
			start := time.Now()
			e, ok := s.find(d)
			took[i] = min(took[i], time.Since(start))
			if there := i < 2; ok != there || there && e.Name != token {
				t.Fatalf("find(%q) = %q, %v", token, e.Name, ok)
			}
		}
	}
	t.Logf("first, last and no entry of %d: %v", MaxTokens, took)
	for _, d := range took {
		if d > 10*took[0] || took[0] > 10*d {
			t.Errorf("first, last and no entry took %v, want about the same", took)
		}
	}
}

// TestLoad_coarseClock changes the file so that its time and size stay the same.
func TestLoad_coarseClock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(name+" dba sha256:"+fmt.Sprintf("%064x", 1)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("eva")
	tokens, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		write string
		now   time.Time
		want  string
	}{
		{"ada", at.Add(time.Hour), "eva"}, // read long after it was written: not looked into
		{"", at, "eva"},
	} {
		if step.write != "" {
			write(step.write)
		}
		if _, err := tokens.load(step.now); err != nil {
			t.Fatal(err)
		}
		if got := tokens.cur.Load().entries[0].Name; got != step.want {
			t.Errorf("the token of %s counts, want that of %s", got, step.want)
		}
	}
	tokens.readAt = at // read in the moment that it was written
	if _, err := tokens.load(at.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := tokens.cur.Load().entries[0].Name; got != "ada" {
		t.Errorf("the token of %s counts, want ada's: her file may be newer than what was read", got)
	}
}
