package pgstore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

// maxFlush bounds what one transaction carries, in units or events.
const maxFlush = 1000

var errStopped = errors.New("the store has stopped")

// group is an adaptive group commit. Requests queue; one flusher takes all that
// wait, up to maxFlush, and answers each after flush has returned. (Two flushers
// were slower at any load: the flushes get smaller, not faster.)
type group[Q, A any] struct {
	// flush answers qs one by one, in their order. An error fails all of them.
	flush   func(ctx context.Context, qs []Q) ([]A, error)
	limit   int64 // cost that may wait
	now     func() time.Time
	metrics groupMetrics

	queue   chan *waiting[Q, A]
	pending atomic.Int64 // cost that waits
	stopped chan struct{}
}

// waiting is one queued request.
type waiting[Q, A any] struct {
	request Q
	cost    int64 // units or events in it, at least 1
	since   time.Time
	gone    <-chan struct{} // closed if nobody waits for the answer any more
	answer  chan answer[A]  // buffered: the flusher never waits
}

type answer[A any] struct {
	value A
	err   error
}

// newGroup makes the group commit called name. Every request costs at least 1, so
// that a queue of limit entries never blocks a sender that keeps the limit.
func newGroup[Q, A any](s *Store, name string, limit int64, flush func(context.Context, []Q) ([]A, error)) *group[Q, A] {
	return &group[Q, A]{
		flush:   flush,
		limit:   limit,
		now:     s.now,
		metrics: s.metrics.group(name),
		queue:   make(chan *waiting[Q, A], limit),
		stopped: make(chan struct{}),
	}
}

// do returns the answer once it is durable. It returns
// experiment.ErrOverloaded at once if too much waits already.
func (g *group[Q, A]) do(ctx context.Context, request Q, cost int) (A, error) {
	var none A
	w := &waiting[Q, A]{
		request: request, cost: int64(cost), since: g.now(), gone: ctx.Done(), answer: make(chan answer[A], 1),
	}
	if g.pending.Add(w.cost) > g.limit {
		g.pending.Add(-w.cost)
		g.metrics.overloaded.Inc()
		return none, experiment.ErrOverloaded
	}
	g.queue <- w
	select {
	case a := <-w.answer:
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-g.stopped:
		return none, errStopped
	}
}

// run flushes until ctx ends.
func (g *group[Q, A]) run(ctx context.Context) error {
	defer close(g.stopped)
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-g.queue:
			g.flushAll(ctx, g.gather(first))
		}
	}
}

// gather takes what waits behind first, as far as it fits one flush. The last one
// taken may exceed maxFlush: it was in the queue and cannot be put back.
func (g *group[Q, A]) gather(first *waiting[Q, A]) []*waiting[Q, A] {
	batch := []*waiting[Q, A]{first}
	size := first.cost
	for size < maxFlush {
		select {
		case w := <-g.queue:
			batch = append(batch, w)
			size += w.cost
		default:
			return batch
		}
	}
	return batch
}

// flushAll flushes those of batch that are still waited for.
func (g *group[Q, A]) flushAll(ctx context.Context, batch []*waiting[Q, A]) {
	start := g.now()
	live, requests, size := batch[:0], make([]Q, 0, len(batch)), int64(0)
	for _, w := range batch {
		g.pending.Add(-w.cost)
		select {
		case <-w.gone:
			continue
		default:
		}
		g.metrics.wait.Observe(start.Sub(w.since).Seconds())
		live = append(live, w)
		requests = append(requests, w.request)
		size += w.cost
	}
	if len(live) == 0 {
		return
	}
	answers, err := g.flush(ctx, requests)
	g.metrics.size.Observe(float64(size))
	g.metrics.duration.Observe(g.now().Sub(start).Seconds())
	for i, w := range live {
		if err != nil {
			w.answer <- answer[A]{err: err}
			continue
		}
		w.answer <- answer[A]{value: answers[i]}
	}
}
