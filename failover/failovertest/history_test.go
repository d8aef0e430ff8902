package failovertest_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/failovertest"
)

// -seed alone replays one history and prints its trace.
var (
	seed  = flag.Int64("seed", -1, "replay only this history, and print everything that happens in it")
	seeds = flag.Uint64("seeds", 0, "play this many histories from -first on, instead of as many as fit -for")
	first = flag.Uint64("first", 0, "seed of the first history")
	limit = flag.Duration("for", time.Minute, "play histories for so long, on one core")
)

func TestHistories(t *testing.T) {
	t.Parallel()
	if *seed >= 0 {
		replay(t, uint64(*seed))
		return
	}
	r := newRun()
	r.play()
	if r.failed != nil {
		t.Errorf("%s; it replays by\n\tgo test ./failover/failovertest -run TestHistories -seed=%d", r.failed.err, r.failed.seed)
		replay(t, r.failed.seed)
	}
	t.Log(r)
	if r.played >= 100 && (r.Retries == 0 || r.Shrinks == 0 || r.Operations[failover.KindSwitchover] == 0) {
		t.Error("no retry, no shrink or no switchover in all of it: the faults miss the rules")
	}
}

// run plays histories until there are enough, on all cores, or until their time is
// up, on one; or until one fails.
type run struct {
	began time.Time
	stop  atomic.Bool

	mu       sync.Mutex
	next     uint64 // seed
	underway map[uint64]struct{}
	played   uint64
	failed   *failure
	failovertest.Result
}

type failure struct {
	seed uint64
	err  error
}

func newRun() *run {
	if testing.Short() {
		*limit /= 10
	}
	r := &run{began: time.Now(), next: *first, underway: make(map[uint64]struct{})}
	r.Operations = make(map[failover.Kind]int)
	return r
}

func (r *run) play() {
	ended := make(chan struct{})
	var progress sync.WaitGroup
	if *seeds > 0 {
		progress.Go(func() { r.tell(ended) })
	}
	var workers sync.WaitGroup
	workers.Go(r.work)
	for i := 1; *seeds > 0 && i < runtime.GOMAXPROCS(0); i++ {
		workers.Go(r.work)
	}
	workers.Wait()
	close(ended)
	progress.Wait()
}

func (r *run) work() {
	for !r.stop.Load() {
		s := r.take()
		if (*seeds > 0 && s-*first >= *seeds) || (*seeds == 0 && time.Since(r.began) > *limit) {
			return
		}
		result, err := failovertest.Run(failovertest.Options{Seed: s, Nodes: nodes(s)})
		r.add(s, result, err)
	}
}

// take hands out the next seed.
func (r *run) take() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.next
	r.next++
	r.underway[s] = struct{}{}
	return s
}

// add counts a history. Of those that fail, the one with the lowest seed is kept:
// which worker is faster does not change what is reported.
func (r *run) add(s uint64, h failovertest.Result, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.underway, s)
	r.played++
	if err != nil {
		r.stop.Store(true)
		if r.failed == nil || s < r.failed.seed {
			r.failed = &failure{s, fmt.Errorf("seed %d, %d nodes: %w", s, nodes(s), err)}
		}
	}
	r.Acked += h.Acked
	r.Epochs += h.Epochs
	r.Retries += h.Retries
	r.Shrinks += h.Shrinks
	r.Forced += h.Forced
	r.Lost += h.Lost
	r.Raises += h.Raises
	r.Changes += h.Changes
	r.Alone += h.Alone
	r.Shown += h.Shown
	r.Orphans += h.Orphans
	r.Virtual += h.Virtual
	for kind, n := range h.Operations {
		r.Operations[kind] += n
	}
}

// tell prints how far the run is, every ten seconds.
func (r *run) tell(ended <-chan struct{}) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		r.mu.Lock()
		played, resume := r.played, r.next
		for s := range r.underway {
			resume = min(resume, s)
		}
		r.mu.Unlock()
		rate := float64(played) / time.Since(r.began).Seconds()
		left := time.Duration(float64(*seeds-played) / max(rate, 1) * float64(time.Second))
		fmt.Fprintf(os.Stderr, "%d of %d histories, %.0f/s, %s to go; resume with FIRST=%d\n",
			played, *seeds, rate, left.Round(time.Second), resume)
	}
}

// String is the figures of a run that has ended.
func (r *run) String() string {
	return fmt.Sprintf("%d histories from seed %d on, %.0f/s: %d commits acknowledged, %d of them by showing them, %d epochs, %d retries, %d shrinks, %d raises, %d changes by people, %d times alone, %d saves without their leader, %d commits given up in %d forced failovers, in %s of virtual time; opened by %v",
		r.played, *first, float64(r.played)/time.Since(r.began).Seconds(), r.Acked, r.Shown, r.Epochs, r.Retries, r.Shrinks, r.Raises, r.Changes, r.Alone, r.Orphans, r.Lost, r.Forced,
		r.Virtual.Round(time.Second), r.Operations)
}

// nodes makes most histories of three nodes, some of five, and a few of seven.
func nodes(seed uint64) int {
	switch seed % 8 {
	case 2, 5:
		return 5
	case 7:
		return 7
	}
	return 3
}

func replay(t *testing.T, s uint64) {
	t.Helper()
	var trace bytes.Buffer
	_, err := failovertest.Run(failovertest.Options{Seed: s, Nodes: nodes(s), Trace: &trace})
	t.Log("\n" + trace.String())
	if err != nil {
		t.Errorf("seed %d, %d nodes: %v", s, nodes(s), err)
	}
}
