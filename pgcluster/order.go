package pgcluster

import "errors"

// ErrStaleOrder is returned for an order below the stamp that a node has made
// durable: it comes from a deposed leader, or from an epoch that has passed.
var ErrStaleOrder = errors.New("order is older than what this node has pledged")

// ErrWrongSystem is returned when a node's data directory belongs to another
// cluster.
var ErrWrongSystem = errors.New("data directory belongs to another cluster")

// OrderKind names what a node is ordered to be. Orders are goals: repeating one
// changes nothing, and a later one replaces it.
type OrderKind string

// Orders. The set is closed.
const (
	// OrderInit: run initdb in an empty node and start a primary that is closed.
	// Refused if there is a data directory.
	OrderInit OrderKind = "init"
	// OrderRecruit: pledge to the epoch. A standby is cut off from its upstream
	// and its walreceiver is gone; a primary is stopped. A standby that is down is
	// started, detached, so that the end of its WAL is known.
	OrderRecruit OrderKind = "recruit"
	// OrderLead: be the primary of the epoch: a standby is promoted, a stopped
	// primary is started in place, at most once for each epoch. Then keep
	// Sync in force, run the barrier commit if Barrier, let clients write if Open.
	OrderLead OrderKind = "lead"
	// OrderFollow: be a streaming standby of Upstream, whose lineage is Lineage:
	// follow, rewind or clone, whichever the local WAL needs.
	OrderFollow OrderKind = "follow"
	// OrderCheckpoint: run a checkpoint, so that a fast stop is short.
	OrderCheckpoint OrderKind = "checkpoint"
	// OrderStop: pledge to the epoch, let transactions in flight end for a bounded
	// time, then shut down cleanly.
	OrderStop OrderKind = "stop"
	// OrderRestart: restart a standby where it is, so that it runs with the settings in
	// its files, and stream again from the same upstream. Carried out once for each
	// Restart number.
	OrderRestart OrderKind = "restart"
	// OrderRest: leave PostgreSQL alone, whether it runs or not: people work on the host.
	OrderRest OrderKind = "rest"
)

// Order is a goal for one node. Fields that a kind does not name are zero.
type Order struct {
	Node  NodeID    `json:"node"`
	Kind  OrderKind `json:"kind"`
	Stamp Stamp     `json:"stamp"`

	SystemID string  `json:"system_id,omitempty"` // of the cluster; checked against the data directory
	Upstream NodeID  `json:"upstream,omitempty"`  // follow
	Lineage  Lineage `json:"lineage,omitempty"`   // follow: the upstream's
	Reclone  bool    `json:"reclone,omitempty"`   // follow: clone, unless this epoch was followed already
	Clone    uint64  `json:"clone,omitempty"`     // follow: clone, once for each of these numbers
	Discard  bool    `json:"discard,omitempty"`   // follow: what is there goes before the clone is made
	Void     bool    `json:"void,omitempty"`      // follow: count the clone of that number as made, and make none
	Sync     SyncSet `json:"sync"`                // lead
	SyncSeq  uint64  `json:"sync_seq,omitempty"`  // lead: which change of Sync this is
	Barrier  bool    `json:"barrier,omitempty"`   // lead
	Open     bool    `json:"open,omitempty"`      // lead
	Restart  uint64  `json:"restart,omitempty"`   // restart: which one this is
}
