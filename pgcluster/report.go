package pgcluster

import "time"

// Role is what a PostgreSQL is, or, while it is stopped, what its data directory
// would start as.
type Role string

// Roles. RoleNone means that there is no data directory.
const (
	RoleNone    Role = "none"
	RolePrimary Role = "primary"
	RoleStandby Role = "standby"
)

// Process is the state of the PostgreSQL server process.
type Process string

// Process states. Crashed means that it ended without having been asked to.
const (
	ProcessStopped  Process = "stopped"
	ProcessCrashed  Process = "crashed"
	ProcessStarting Process = "starting"
	ProcessRunning  Process = "running" // answers queries
	ProcessForeign  Process = "foreign" // runs under somebody else's configuration, to be taken over by the first order
)

// Stamp orders the orders that a node receives: an agent refuses one that is
// below the highest it has made durable.
type Stamp struct {
	Epoch uint64 `json:"epoch"` // of the primary that the order is about
	Term  uint64 `json:"term"`  // Raft term of the leader that gives it
	Index uint64 `json:"index"` // of the state that justifies it
}

// Before reports whether s is older than o.
func (s Stamp) Before(o Stamp) bool {
	if s.Epoch != o.Epoch {
		return s.Epoch < o.Epoch
	}
	if s.Term != o.Term {
		return s.Term < o.Term
	}
	return s.Index < o.Index
}

// Sender is one row of pg_stat_replication on the reporting node.
type Sender struct {
	Node         NodeID        `json:"node"`
	Streaming    bool          `json:"streaming"`     // state is streaming, not catchup or backup
	SyncPriority int           `json:"sync_priority"` // as the walsender itself has loaded it; 0 is asynchronous
	Flushed      LSN           `json:"flushed"`
	Replayed     LSN           `json:"replayed"`
	ReplayLag    time.Duration `json:"replay_lag"`
}

// Receiver is the standby's side of streaming.
type Receiver struct {
	Upstream  NodeID        `json:"upstream"`  // whom the node was told to follow; empty when detached
	Streaming bool          `json:"streaming"` // a walreceiver is connected
	HeardAgo  time.Duration `json:"heard_ago"` // since the upstream last sent anything; meaningful only if Streaming
}

// OrderStatus is how far the agent is with the last order that it accepted.
type OrderStatus struct {
	Kind  OrderKind `json:"kind"`
	Stamp Stamp     `json:"stamp"`
	Step  string    `json:"step"` // what it is doing, for people

	// Of a lead order, once SyncNames and Senders were read after it was accepted:
	SyncSeq uint64 `json:"sync_seq,omitempty"`

	// Of a follow order:
	Upstream NodeID   `json:"upstream,omitempty"`
	Timeline Timeline `json:"timeline,omitempty"` // that the ordered lineage ends in
	Reclone  bool     `json:"reclone,omitempty"`
	Clone    uint64   `json:"clone,omitempty"`

	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"` // of the last attempt; the agent goes on trying
}

// Report is what an agent says about its node. It is a snapshot of one moment.
type Report struct {
	Node     NodeID  `json:"node"`
	Seq      uint64  `json:"seq"` // grows when anything but a position changes
	SystemID string  `json:"system_id,omitempty"`
	Process  Process `json:"process"`
	Role     Role    `json:"role"`

	// Position is the end of the WAL that is flushed on this node. For a server
	// that is not running it is known only after a clean shutdown.
	Position      Position `json:"position"`
	PositionKnown bool     `json:"position_known"`
	Replayed      LSN      `json:"replayed"` // standby only
	Lineage       Lineage  `json:"lineage,omitempty"`

	Pledged   Stamp  `json:"pledged"`   // highest stamp made durable
	Recruited uint64 `json:"recruited"` // epoch that the node is detached for: pledged, not streaming, not primary
	Led       uint64 `json:"led"`       // last epoch in which the node became primary; 0 again after a clone
	Followed  uint64 `json:"followed"`  // last epoch for whose primary the node was pointed at an upstream

	Receiver Receiver `json:"receiver"`
	Senders  []Sender `json:"senders,omitempty"`

	SyncNames string `json:"sync_names,omitempty"` // synchronous_standby_names in force
	Barrier   uint64 `json:"barrier"`              // epoch for which a synchronous commit was acknowledged
	BarrierAt LSN    `json:"barrier_at"`           // a position in that commit, past everything acknowledged before it
	Open      uint64 `json:"open"`                 // epoch for which ordinary clients may write
	Stopping  bool   `json:"stopping,omitempty"`   // this node's xpd is being shut down

	// LeaseLeft is for how long yet this node may trust what it knows of the primary.
	LeaseLeft time.Duration `json:"lease_left"`

	// LeaderFor is for how long this node has heard a Raft leader, and Leaderless for how
	// long it had heard none before that, both but for short breaks; 0 if it does not, or
	// did since it was started.
	LeaderFor  time.Duration `json:"leader_for,omitempty"`
	Leaderless time.Duration `json:"leaderless,omitempty"`

	// AnsweredAgo is how long ago PostgreSQL answered the agent, or was started or
	// found if it has not yet; zero if it is down. One that hangs is not down.
	AnsweredAgo time.Duration `json:"answered_ago"`

	// Evidence of a server that answers and yet does not work; zero while it does, and
	// when it is down.
	ConnectStalled time.Duration `json:"connect_stalled,omitempty"` // since a new connection was last possible
	WriteStalled   time.Duration `json:"write_stalled,omitempty"`   // since WAL that waits for this node's own disk last got on

	Disks    []Disk     `json:"disks,omitempty"`
	SetAside []SetAside `json:"set_aside,omitempty"` // diverged WAL that is kept, oldest first

	Config       uint64    `json:"config"`                    // version of the Config that the configuration files have
	Pending      []string  `json:"pending_restart,omitempty"` // settings that wait for a restart of PostgreSQL
	Higher       []string  `json:"pending_higher,omitempty"`  // of Pending, what a standby may not have less of than its primary, and gets higher
	Lower        []string  `json:"pending_lower,omitempty"`   // the same, and gets lower
	Refused      []string  `json:"refused,omitempty"`         // settings that PostgreSQL does not take, with the reason; it runs without them
	Overrides    []string  `json:"overrides,omitempty"`       // ALTER SYSTEM of settings that the agent owns, taken back
	Weak         []string  `json:"weak,omitempty"`            // roles and databases whose commits do not wait for a standby; a session that says so itself shows nowhere
	LogicalSlots []string  `json:"logical_slots,omitempty"`   // would not survive the loss of this node
	Restarted    uint64    `json:"restarted,omitempty"`       // number of the last restart order that was carried out
	Cloned       uint64    `json:"cloned,omitempty"`          // number of the last clone that was asked for, and made or taken back
	DataBytes    uint64    `json:"data_bytes,omitempty"`      // size of all databases, looked at now and then; 0 unknown
	Wall         time.Time `json:"wall"`                      // this node's clock, to compare clocks by

	Order     OrderStatus `json:"order"`
	LastError string      `json:"last_error,omitempty"` // from PostgreSQL's own log or a failed probe
}

// Disk is a filesystem that the node depends on.
type Disk struct {
	Use   string `json:"use"` // data, wal or state
	Path  string `json:"path"`
	Free  uint64 `json:"free_bytes"`
	Total uint64 `json:"total_bytes"`
}

// SetAside is WAL that a node had and the cluster did not: nothing in it was ever
// acknowledged.
type SetAside struct {
	At    time.Time `json:"at"`
	From  Position  `json:"from"` // where it left the cluster's history
	To    LSN       `json:"to"`   // its end; 0 if that is not known
	Bytes int64     `json:"bytes"`
	Path  string    `json:"path"`
}

// Running reports whether PostgreSQL answers queries.
func (r Report) Running() bool { return r.Process == ProcessRunning }

// Down reports whether there is certainly no PostgreSQL process.
func (r Report) Down() bool { return r.Process == ProcessStopped || r.Process == ProcessCrashed }

// Sender returns the walsender that serves id.
func (r Report) Sender(id NodeID) (Sender, bool) {
	for _, s := range r.Senders {
		if s.Node == id {
			return s, true
		}
	}
	return Sender{}, false
}
