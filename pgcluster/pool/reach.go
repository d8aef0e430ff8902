package pool

import (
	"sync"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// reach is since when a PostgreSQL cannot be connected to.
type reach struct {
	mu    sync.Mutex
	tried bool
	since time.Time // zero while connections stand
}

func (r *reach) note(ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried = true
	switch {
	case ok:
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = time.Now()
	}
}

// lost returns for how long there has been no connection, or false before the first
// attempt.
func (r *reach) lost() (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		return 0, r.tried
	}
	return time.Since(r.since), true
}

// Lost returns for how long each node's PostgreSQL could not be connected to: 0 while
// connections stand. Of who was not tried yet nothing is said.
func (p *Pools) Lost() map[pgcluster.NodeID]time.Duration {
	out := map[pgcluster.NodeID]time.Duration{}
	for id, n := range *p.nodes.Load() {
		if d, tried := n.reach.lost(); tried {
			out[id] = d
		}
	}
	return out
}
