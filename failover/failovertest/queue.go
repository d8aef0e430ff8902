package failovertest

import "time"

// event is something that will happen; seq keeps those of one moment in order.
type event struct {
	at  time.Duration
	seq uint64
	run func()
}

func (e *event) before(o *event) bool { return e.at < o.at || (e.at == o.at && e.seq < o.seq) }

// queue is a heap of events, the next one first. Half of a history's time goes
// here, so each node has four children and nothing is boxed.
type queue []event

const arity = 4

func (q *queue) push(e event) {
	h := append(*q, e)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / arity
		if !e.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = e
	*q = h
}

func (q *queue) pop() event {
	h := *q
	first, last := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*q = h
	if len(h) == 0 {
		return first
	}
	i := 0
	for {
		child := q.firstChild(i)
		if child < 0 || !h[child].before(&last) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = last
	return first
}

// firstChild returns the child of i that comes before the others, or -1.
func (q *queue) firstChild(i int) int {
	h := *q
	lo := arity*i + 1
	if lo >= len(h) {
		return -1
	}
	best := lo
	for j := lo + 1; j < min(lo+arity, len(h)); j++ {
		if h[j].before(&h[best]) {
			best = j
		}
	}
	return best
}
