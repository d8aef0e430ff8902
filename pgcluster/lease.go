package pgcluster

import "time"

// GrantSource says on whose word a lease was granted.
type GrantSource string

// Sources of a grant.
const (
	GrantLeader  GrantSource = "leader"  // of Raft, which had made sure that it leads
	GrantPrimary GrantSource = "primary" // out of its own lease
	GrantQuorum  GrantSource = "quorum"  // as many standbys as a commit waits for
)

// Grant is a lease as it is handed out: at the moment when it was asked for, no
// epoch above Epoch had been opened. Whoever gets it trusts that for For, counted
// from before it asked, so that no two clocks are ever compared.
type Grant struct {
	Epoch  uint64        `json:"epoch"`
	For    time.Duration `json:"for_ns"`
	Alone  bool          `json:"alone,omitempty"` // the primary acknowledges without a standby: writes need the lease too
	Source GrantSource   `json:"source"`
}
