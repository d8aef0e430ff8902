package pgcluster

// Identity is who a node is and what it belongs to, as it says to the other nodes.
type Identity struct {
	Node     NodeID   `json:"node"`
	SystemID string   `json:"system_id,omitempty"` // of its data directory; empty if there is none
	Role     Role     `json:"role"`
	Cluster  string   `json:"cluster,omitempty"` // PostgreSQL's system id in its agreed state
	Members  []NodeID `json:"members,omitempty"` // of its agreed state; none: it belongs to no cluster yet
	Applied  uint64   `json:"applied"`           // Raft index of that state
}

// IdentityToken returns what asks a node only who it is, made from what the nodes know
// each other by. A node that is to join is asked at an address that somebody has typed
// in: whoever listens there must not learn what gives orders.
func IdentityToken(nodeToken string) string { return Secret(nodeToken).Password("identity") }
