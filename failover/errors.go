package failover

import "errors"

// Errors of a replicated log of states, for its callers to match.
var (
	// ErrStale is returned for a state that was decided on an older state than the
	// current one. Nothing was changed: read again and decide again.
	ErrStale = errors.New("decided on a stale state")
	// ErrNotLeader is returned where only the leader may act. Nothing was changed.
	ErrNotLeader = errors.New("this node does not lead the cluster")
	// ErrUncertain is returned for a change that may take effect or not: leadership
	// or the time to wait ended first. Only the state tells.
	ErrUncertain = errors.New("it is not known whether it was done")
)
