package failover

import "errors"

// Errors of a replicated log of states, for its callers to match.
var (
	// ErrStale is returned for a state that was decided on an older state than the
	// current one. Nothing was changed: read again and decide again.
	ErrStale = errors.New("decided on a stale state")
	// ErrNotLeader is returned where only the leader may act. If leadership was
	// lost while a state was being saved, it may yet turn out to have been saved.
	ErrNotLeader = errors.New("this node does not lead the cluster")
)
