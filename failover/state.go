package failover

import (
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// State is what the cluster has agreed on. It is replicated through Raft and is
// the only thing that decisions survive in.
type State struct {
	Members  []pgcluster.Member `json:"members"`
	SystemID string             `json:"system_id,omitempty"` // of PostgreSQL; set once, then initdb never runs again
	Primary  Primary            `json:"primary"`             // the last that was opened, or is being made
	Sync     Sync               `json:"sync"`
	Floor    pgcluster.Position `json:"floor"` // no candidate below it is ever promoted
	Lineage  pgcluster.Lineage  `json:"lineage,omitempty"`
	Epochs   []Epoch            `json:"epochs,omitempty"` // those that were opened, oldest first
	Op       *Operation         `json:"op,omitempty"`
	Ops      uint64             `json:"ops"` // the highest number of an operation or absence so far
	Settings Settings           `json:"settings"`
	Paused   *Pause             `json:"paused,omitempty"`
	// Aside is when a node set aside what was recorded last, by that node's clock.
	Aside   map[pgcluster.NodeID]time.Time `json:"aside,omitempty"`
	History []Event                        `json:"history,omitempty"`
	Gone    []pgcluster.NodeID             `json:"gone,omitempty"` // former members, the last to leave last
	// Absent are nodes that people have the cluster do without, and why.
	Absent map[pgcluster.NodeID]Absence `json:"absent,omitempty"`
	Audit  []AuditEntry                 `json:"audit,omitempty"` // what people asked for, oldest first
}

// Mode says what goes first when too few standbys are there to wait for.
type Mode string

// Modes. The zero value is ModeProtect.
const (
	ModeProtect   Mode = "protect"   // writes wait: what is acknowledged is on K standbys, always
	ModeAvailable Mode = "available" // writes go on with fewer standbys, in the end with none
)

// Settings are what people choose for the whole cluster. They are changed by
// Configure only.
type Settings struct {
	Mode Mode `json:"mode,omitempty"`
	// K is how many standbys a commit waits for; 0 is half of the nodes that may be
	// waited for, rounded down.
	K        int               `json:"k,omitempty"`
	Postgres map[string]string `json:"postgres,omitempty"` // settings of every node's PostgreSQL
	Version  uint64            `json:"version"`            // grows with every change of Postgres or Members
}

// Pause keeps the controller from acting on what it sees: it decides nothing until
// the time is up. What was agreed on is carried on: an open primary stays open.
type Pause struct {
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Config returns what every node applies by itself.
func (s State) Config() pgcluster.Config {
	return pgcluster.Config{Version: s.Settings.Version, Members: s.Members, Settings: s.Settings.Postgres}
}

// Access says whether ordinary clients may write to the primary.
type Access string

// Access to the primary.
const (
	AccessClosed Access = "closed"
	AccessOpen   Access = "open"
)

// Primary is a node's term as primary.
type Primary struct {
	Node   pgcluster.NodeID `json:"node,omitempty"`
	Epoch  uint64           `json:"epoch"`
	Access Access           `json:"access"`
	Base   Base             `json:"base"`
}

// Base is what a node's WAL came from when the node was chosen to be primary.
type Base struct {
	Epoch    uint64             `json:"epoch"`    // that wrote to it last
	Timeline pgcluster.Timeline `json:"timeline"` // that the new primary's own will be numbered after
}

// Sync is the synchronous replication rule as recorded.
type Sync struct {
	// Durable is the rule that a failover recruits by. It contains every member
	// that may have acknowledged a commit alone.
	Durable pgcluster.SyncSet `json:"durable"`
	// Pending, if set, is on its way into PostgreSQL: Durable less one member, or
	// with K greater by one.
	Pending *pgcluster.SyncSet `json:"pending,omitempty"`
	// Past is the LSN past which every walsender must have heard its standby flush
	// before a greater K counts as in force; zero until the postmaster has it.
	Past pgcluster.LSN `json:"past,omitempty"`
	// Mark is the LSN that K members of Pending must have flushed before Pending
	// becomes Durable; zero until nobody acknowledges by Durable any more.
	Mark pgcluster.LSN `json:"mark"`
	// Seq counts the rules that a primary was ordered to have in force. A rule may
	// come back: only its number tells a report of the second time from the first.
	Seq uint64 `json:"seq"`
}

// target is the rule that PostgreSQL should have in force.
func (s Sync) target() pgcluster.SyncSet {
	if s.Pending != nil {
		return *s.Pending
	}
	return s.Durable
}

// raises reports whether a greater K is on its way.
func (s Sync) raises() bool { return s.Pending != nil && s.Pending.K > s.Durable.K }

// removed returns the member that is on its way out, or "".
func (s Sync) removed() pgcluster.NodeID {
	for _, id := range s.Durable.Members {
		if s.Pending != nil && !s.Pending.Has(id) {
			return id
		}
	}
	return ""
}

// Epoch records an opened epoch.
type Epoch struct {
	Epoch    uint64             `json:"epoch"`
	Node     pgcluster.NodeID   `json:"node"`
	Timeline pgcluster.Timeline `json:"timeline"`
}

// Kind is why an operation runs.
type Kind string

// Kinds of operations.
const (
	KindBootstrap  Kind = "bootstrap"
	KindFailover   Kind = "failover"
	KindSwitchover Kind = "switchover"
	KindRestart    Kind = "restart" // of PostgreSQL on one node, or on all
	KindAdopt      Kind = "adopt"   // of a PostgreSQL that was there before
)

// Phase is the step an operation is in.
type Phase string

// Phases; doc.go shows in which order each kind passes through them.
const (
	PhaseInit       Phase = "init"
	PhaseCheckpoint Phase = "checkpoint"
	PhaseStop       Phase = "stop"
	PhaseRecruit    Phase = "recruit"
	PhasePromote    Phase = "promote"
	PhaseBarrier    Phase = "barrier"
	PhaseRestart    Phase = "restart" // of nodes one by one, while the primary is open
	PhaseAdopt      Phase = "adopt"   // a primary that others made is taken over, closed
)

// Operation is a change of primary under way.
type Operation struct {
	ID    uint64           `json:"id"`
	Kind  Kind             `json:"kind"`
	Epoch uint64           `json:"epoch"` // that it will open
	Phase Phase            `json:"phase"`
	From  pgcluster.NodeID `json:"from,omitempty"` // the primary of the last opened epoch
	To    pgcluster.NodeID `json:"to,omitempty"`   // chosen; durable from PhasePromote on
	// InPlace prefers restarting From where too few standbys run to fail over to.
	InPlace bool `json:"in_place,omitempty"`
	Base    Base `json:"base"`
	// Sync will be in force in the new epoch.
	Sync pgcluster.SyncSet `json:"sync"`
	// Alone lets the new primary open with K = 0 in Sync: see ModeAvailable.
	Alone bool `json:"alone,omitempty"`
	// Tried are nodes that were chosen in earlier epochs of this operation and
	// failed. Each was at or above the floor when chosen.
	Tried []pgcluster.NodeID `json:"tried,omitempty"`
	// Failed is who was chosen in the epoch before this one, in vain.
	Failed pgcluster.NodeID `json:"failed,omitempty"`
	Reason string           `json:"reason"`
	// Todo are nodes that are to be restarted yet, To the one whose turn it is.
	Todo   []pgcluster.NodeID `json:"todo,omitempty"`
	All    bool               `json:"all,omitempty"` // nodes are restarted
	Forced *Forced            `json:"forced,omitempty"`
	// Evidence is what each node saw when the operation began.
	Evidence []string `json:"evidence,omitempty"`
	// Unwell is for how long From had not been well when the operation began, as far as
	// is known.
	Unwell time.Duration `json:"unwell_ns,omitempty"`
	Began  time.Time     `json:"began"`
	Steps  []PhaseTime   `json:"steps"`
}

// PhaseTime is when a phase was entered, by the clock of the leader of that time.
type PhaseTime struct {
	Phase Phase            `json:"phase"`
	Epoch uint64           `json:"epoch"`
	Node  pgcluster.NodeID `json:"node,omitempty"` // whose turn it is, of PhaseRestart
	At    time.Time        `json:"at"`
}

// Event is a line of the cluster's history.
type Event struct {
	At     time.Time        `json:"at"`
	Epoch  uint64           `json:"epoch"`
	Kind   string           `json:"kind"` // bootstrap, failover, switchover, aborted, grow, shrink, raise, lower, added, removed, maintenance, …
	Node   pgcluster.NodeID `json:"node,omitempty"`
	From   pgcluster.NodeID `json:"from,omitempty"`
	Reason string           `json:"reason"`
	Took   time.Duration    `json:"took_ns,omitempty"` // from the decision to open
	Steps  []PhaseTime      `json:"steps,omitempty"`
	Unwell time.Duration    `json:"unwell_ns,omitempty"` // for how long From had not been well before the decision, as far as is known

	Evidence []string            `json:"evidence,omitempty"`  // of a failover: what each node saw when it began
	SetAside *pgcluster.SetAside `json:"set_aside,omitempty"` // WAL that Node keeps
	Lost     *DataLoss           `json:"lost,omitempty"`      // by a failover without a quorum
}

// Bounds of what State remembers.
const (
	maxHistory = 200
	maxEpochs  = 200
)

// clone returns a copy whose pointers and slices Step may change.
func (s State) clone() State {
	s.Epochs = slices.Clone(s.Epochs)
	s.History = slices.Clone(s.History)
	if s.Sync.Pending != nil {
		p := *s.Sync.Pending
		s.Sync.Pending = &p
	}
	if s.Op != nil {
		op := *s.Op
		op.Tried = slices.Clone(op.Tried)
		op.Steps = slices.Clone(op.Steps)
		op.Todo = slices.Clone(op.Todo)
		s.Op = &op
	}
	return s
}

// Member returns the member called id.
func (s State) Member(id pgcluster.NodeID) (pgcluster.Member, bool) {
	i := slices.IndexFunc(s.Members, func(m pgcluster.Member) bool { return m.ID == id })
	if i < 0 {
		return pgcluster.Member{}, false
	}
	return s.Members[i], true
}

// opened reports whether clients were ever let in during epoch. Epochs too old to
// be remembered count as opened.
func (s State) opened(epoch uint64) bool {
	if len(s.Epochs) == 0 {
		return false
	}
	if len(s.Epochs) == maxEpochs && epoch < s.Epochs[0].Epoch {
		return true
	}
	return slices.ContainsFunc(s.Epochs, func(e Epoch) bool { return e.Epoch == epoch })
}

// timelineBefore returns the timeline that the last epoch opened before epoch was
// on; that of initdb if there was none.
func (s State) timelineBefore(epoch uint64) pgcluster.Timeline {
	for _, e := range slices.Backward(s.Epochs) {
		if e.Epoch < epoch {
			return e.Timeline
		}
	}
	return 1
}

func (op *Operation) enter(ph Phase, v View) {
	op.Phase = ph
	step := PhaseTime{Phase: ph, Epoch: op.Epoch, At: v.Wall}
	if ph == PhaseRestart {
		step.Node = op.To
	}
	op.Steps = append(op.Steps, step)
	if over := len(op.Steps) - maxHistory; over > 0 {
		op.Steps = slices.Delete(op.Steps, 0, over)
	}
}
