package failovertest_test

import (
	"bytes"
	"flag"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/failovertest"
)

// -seed alone replays one history and prints its trace.
var (
	seed  = flag.Int64("seed", -1, "replay only this history, and print everything that happens in it")
	seeds = flag.Int("seeds", 0, "play this many histories from -first on, instead of as many as fit -for")
	first = flag.Uint64("first", 0, "seed of the first history")
	limit = flag.Duration("for", 20*time.Second, "play histories for so long")
)

func TestHistories(t *testing.T) {
	t.Parallel()
	if *seed >= 0 {
		replay(t, uint64(*seed))
		return
	}
	began, played := time.Now(), 0
	total := failovertest.Result{Operations: make(map[failover.Kind]int)}
	if testing.Short() {
		*limit /= 10
	}
	for s := *first; ; s++ {
		if (*seeds > 0 && played == *seeds) || (*seeds == 0 && time.Since(began) > *limit) {
			break
		}
		r, err := failovertest.Run(failovertest.Options{Seed: s, Nodes: nodes(s)})
		if err != nil {
			t.Errorf("seed %d, %d nodes: %v\nreplay: go test ./failover/failovertest -run TestHistories -seed=%d", s, nodes(s), err, s)
			if !testing.Verbose() { // with -v the seeds that fail are listed
				break
			}
		}
		played++
		total.Acked += r.Acked
		total.Epochs += r.Epochs
		total.Retries += r.Retries
		total.Shrinks += r.Shrinks
		total.Virtual += r.Virtual
		for kind, n := range r.Operations {
			total.Operations[kind] += n
		}
	}
	t.Logf("%d histories, %.1f/s: %d commits acknowledged, %d epochs, %d retries, %d shrinks in %s of virtual time; opened by %v",
		played, float64(played)/time.Since(began).Seconds(), total.Acked, total.Epochs, total.Retries, total.Shrinks,
		total.Virtual.Round(time.Second), total.Operations)
	if played >= 50 && (total.Retries == 0 || total.Shrinks == 0 || total.Operations[failover.KindSwitchover] == 0) {
		t.Error("no retry, no shrink or no switchover in all of it: the faults miss the rules")
	}
}

// nodes makes every third history one of five nodes.
func nodes(seed uint64) int {
	if seed%3 == 2 {
		return 5
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
