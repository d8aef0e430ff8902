package failover

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Level sums a Status up for monitoring.
type Level string

// Levels, from good to bad.
const (
	LevelOK       Level = "ok"        // writes are open and the loss of any one node is survived
	LevelDegraded Level = "degraded"  // writes are open, but something is amiss
	LevelNoWrites Level = "no_writes" // writes wait
)

// Status is what a person or a monitor wants to know of the cluster.
type Status struct {
	Level   Level              `json:"level"`
	Writes  string             `json:"writes"` // open, or blocked: and why
	Epoch   uint64             `json:"epoch"`
	Primary pgcluster.NodeID   `json:"primary,omitempty"`
	Sync    string             `json:"sync"` // the rule in the notation of PostgreSQL
	Op      *Operation         `json:"op,omitempty"`
	Nodes   []NodeStatus       `json:"nodes"`
	Held    string             `json:"held,omitempty"` // why a failover that is called for does not begin
	Paused  *Pause             `json:"paused,omitempty"`
	IfDies  []Loss             `json:"if_dies"`
	Floor   pgcluster.Position `json:"floor"`
}

// NodeStatus is one node as it was last seen.
type NodeStatus struct {
	ID        pgcluster.NodeID       `json:"id"`
	Role      pgcluster.Role         `json:"role"`
	State     string                 `json:"state"` // open, closed, streaming, cut off, stopped, crashed, starting, silent, empty
	Timeline  pgcluster.Timeline     `json:"timeline"`
	LSN       pgcluster.LSN          `json:"lsn"`
	Gap       int64                  `json:"gap_bytes"`       // WAL flushed on the primary and not here; -1 unknown
	Lag       time.Duration          `json:"lag_ns"`          // of replay; -1 unknown
	Sync      string                 `json:"sync"`            // sync, async, or - for the primary
	Spare     bool                   `json:"spare,omitempty"` // it could be waited for, and need not be: enough nodes of the primary's zone are
	Age       time.Duration          `json:"age_ns"`          // of the report; -1 never seen
	LeaseLeft time.Duration          `json:"lease_left_ns"`   // for how long yet the node trusts what it knows; 0: not at all
	Doing     *pgcluster.OrderStatus `json:"doing,omitempty"`
	Absent    *Absence               `json:"absent,omitempty"`   // people have the cluster do without it
	Released  bool                   `json:"released,omitempty"` // and so it does: no commit rests on it, and its PostgreSQL is as they want it
	Notes     []string               `json:"notes,omitempty"`
}

// Loss says what would happen if a node died now.
type Loss struct {
	Node    pgcluster.NodeID `json:"node"`
	Safe    bool             `json:"safe"` // writes would go on by themselves
	Outcome string           `json:"outcome"`
}

// Explain describes the cluster as s and v show it.
func Explain(s State, v View, p Policy) Status {
	d := decision{s: s, v: v, p: p}
	out := Status{
		Epoch: s.Primary.Epoch, Primary: s.Primary.Node, Sync: s.Sync.target().String(), Op: s.Op, Floor: s.Floor,
		Paused: s.Paused,
	}
	blocked := d.blocked()
	out.Writes = "open"
	if blocked != "" {
		out.Writes = "blocked: " + blocked
	}
	out.Level = LevelOK
	if out.Held = d.held(); out.Held != "" || out.Paused != nil {
		out.Level = LevelDegraded
	}
	for _, m := range s.Members {
		n := d.nodeStatus(m.ID)
		if !n.Well() || d.refuses(m.ID) {
			out.Level = LevelDegraded
		}
		out.Nodes = append(out.Nodes, n)
		if loss, ok := d.ifDies(m.ID); ok && blocked == "" {
			if !loss.Safe {
				out.Level = LevelDegraded
			}
			out.IfDies = append(out.IfDies, loss)
		}
	}
	if blocked != "" {
		out.Level = LevelNoWrites
	}
	return out
}

// blocked says why writes wait, or "".
func (d *decision) blocked() string {
	switch {
	case d.s.Op != nil && d.s.Primary.Access == AccessOpen:
		return d.unacknowledged()
	case d.s.Op != nil:
		return d.opBlocked()
	case d.s.SystemID == "":
		return "the cluster has not started yet" + d.notAdopted() + d.missing("; waiting for ", func(id pgcluster.NodeID) bool {
			_, ok := d.v.report(id, d.p)
			return ok
		})
	}
	return d.unacknowledged()
}

// unacknowledged says why an open primary cannot acknowledge, or "".
func (d *decision) unacknowledged() string {
	if id := d.s.Primary.Node; d.s.fenced(id) {
		return fmt.Sprintf("the primary %s is fenced (%s): pgctl unfence %s takes it back, pgctl switchover lets a standby take over",
			id, d.s.Absent[id].Reason, id)
	}
	r, ok := d.v.report(d.s.Primary.Node, d.p)
	if !ok {
		if f, lost := d.primaryLost(); lost {
			return f.reason
		}
		if d.vouched() {
			return "" // only its xpd is silent
		}
		return fmt.Sprintf("the primary %s is silent", d.s.Primary.Node) + d.quorumMissing()
	}
	if !r.Running() {
		return fmt.Sprintf("PostgreSQL on %s is %s", d.s.Primary.Node, r.Process)
	}
	if r.AnsweredAgo >= d.p.Hung && !d.vouched() {
		return fmt.Sprintf("PostgreSQL on %s does not answer", d.s.Primary.Node) + d.quorumMissing()
	}
	if why := d.unwilling(r); why != "" {
		return why
	}
	sync := d.s.Sync.target()
	if streaming(r, sync) < sync.K {
		return fmt.Sprintf("%s waits for %d of %s to stream", d.s.Primary.Node, sync.K, list(sync.Members)) + d.absentees()
	}
	if lost := d.denying(r, sync); streaming(r, sync)-len(lost) < sync.K {
		return fmt.Sprintf("%s may have died: by what they say themselves, nothing streams from it to %s", r.Node, list(lost))
	}
	return ""
}

// denying lists the members of sync that do not stream by their own word, though the
// primary's report r says that they do: that of a primary which has just died does.
func (d *decision) denying(r pgcluster.Report, sync pgcluster.SyncSet) []pgcluster.NodeID {
	var out []pgcluster.NodeID
	for _, id := range sync.Members {
		s, _ := r.Sender(id)
		f, ok := d.v.report(id, d.p)
		if s.Streaming && ok && (!f.Running() || !f.Receiver.Streaming || f.Receiver.Upstream != r.Node) {
			out = append(out, id)
		}
	}
	return out
}

// unwilling says why a primary that answers takes no writes, or "".
func (d *decision) unwilling(r pgcluster.Report) string {
	switch {
	case r.Role != pgcluster.RolePrimary:
		return fmt.Sprintf("PostgreSQL on %s runs as a standby", r.Node)
	case r.Open != d.s.Primary.Epoch:
		return fmt.Sprintf("PostgreSQL on %s is not open to clients", r.Node)
	case r.WriteStalled >= d.p.Hung && !d.overtaken(r):
		return fmt.Sprintf("the disk of %s has not taken any WAL for %s", r.Node, tenths(r.WriteStalled))
	}
	return ""
}

// quorumMissing names the nodes whose return would let a failover go on.
func (d *decision) quorumMissing() string {
	durable, primary := d.s.Sync.Durable, d.s.Primary.Node
	there := func(id pgcluster.NodeID) bool {
		_, ok := d.v.report(id, d.p)
		return ok
	}
	if durable.K == 0 {
		return fmt.Sprintf("; no commit waited for another node, so only %s has everything", primary)
	}
	here, promotable := 0, false
	for _, id := range durable.Members {
		if there(id) {
			here++
			promotable = promotable || !d.s.barred(id)
		}
	}
	absent := d.missing("", func(id pgcluster.NodeID) bool { return there(id) || !durable.Has(id) })
	switch need := durable.Quorum() - here; {
	case need <= 0 && !promotable && d.s.Op == nil:
		return "; nobody else that is there may be promoted (nofailover)" + d.absentees()
	case need > 1 && !there(primary):
		return fmt.Sprintf("; a failover needs %s, or %d of: %s", primary, need, absent)
	case need > 1:
		return fmt.Sprintf("; a failover needs %d of: %s", need, absent)
	}
	return d.missing("; a failover needs one of: ", func(id pgcluster.NodeID) bool {
		return there(id) || (id != primary && !durable.Has(id))
	})
}

func (d *decision) opBlocked() string {
	op := d.s.Op
	switch op.Phase {
	case PhaseRecruit:
		return fmt.Sprintf("%s to epoch %d recruits", op.Kind, op.Epoch) + d.quorumMissing() + d.unpromotable() + d.forcedSoon()
	case PhaseBarrier:
		return fmt.Sprintf("%s of %s waits until %s", op.Kind, op.To, standbysStream(max(op.Sync.K, d.nextK()))) +
			d.missing("; silent: ", func(id pgcluster.NodeID) bool {
				_, ok := d.v.report(id, d.p)
				return ok
			})
	case PhaseInit, PhaseAdopt, PhaseCheckpoint, PhaseStop, PhasePromote, PhaseRestart:
	}
	return fmt.Sprintf("%s to %s is in phase %s", op.Kind, op.To, op.Phase)
}

// unpromotable names the nodes that would be promoted if they were allowed to be.
func (d *decision) unpromotable() string {
	pledged := d.pledged()
	floor, ok := d.atLeast(pledged)
	if !ok {
		return ""
	}
	var ids []pgcluster.NodeID
	for _, m := range d.s.Members {
		if r, there := pledged[m.ID]; there && m.NoFailover && readable(r) && reaches(r, floor) && d.onLineage(r) {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return d.absentees()
	}
	return "; nobody else has all of the WAL of " + list(ids) + ", which must not be promoted (nofailover)"
}

func (d *decision) missing(lead string, present func(pgcluster.NodeID) bool) string {
	var ids []pgcluster.NodeID
	for _, m := range d.s.dataMembers() {
		if !present(m.ID) {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	return lead + list(ids)
}

func list(ids []pgcluster.NodeID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return strings.Join(out, ", ")
}

func (d *decision) nodeStatus(id pgcluster.NodeID) NodeStatus {
	o, seen := d.v.Reports[id]
	n := NodeStatus{ID: id, Role: pgcluster.RoleNone, Gap: -1, Lag: -1, Age: -1, Sync: "async", State: "silent"}
	if d.s.Sync.target().Has(id) {
		n.Sync = "sync"
	}
	if a, absent := d.s.Absent[id]; absent {
		n.Absent = &a
		n.Notes = []string{a.String()}
		n.Released = d.released(id, a)
	}
	if !seen {
		return n
	}
	r := o.Report
	n.Role, n.Timeline, n.LSN, n.Age = r.Role, r.Position.Timeline, r.Position.LSN, d.v.Now-o.At
	if !r.Order.Done && r.Order.Kind != "" {
		n.Doing = &r.Order
	}
	n.Notes = append(n.Notes, d.notes(r)...)
	n.LeaseLeft = max(0, r.LeaseLeft-n.Age)
	primary := d.v.Reports[d.s.Primary.Node].Report
	if id == d.s.Primary.Node {
		n.Sync, n.Gap, n.Lag = "-", 0, 0
	} else if r.PositionKnown && primary.PositionKnown {
		gap := max(primary.Position.LSN, r.Position.LSN) - r.Position.LSN
		n.Gap = int64(min(gap, math.MaxInt64))
	}
	if s, ok := primary.Sender(id); ok {
		n.Lag = s.ReplayLag
	}
	if n.Age < d.p.Silence {
		n.State = d.nodeState(r, primary)
	}
	if up, ok := d.v.report(d.s.Primary.Node, d.p); ok && d.spareOf(up, id) {
		m, _ := d.s.Member(id)
		n.Spare = true
		n.Notes = append(n.Notes, fmt.Sprintf("streams; commits need not wait for it: it is in zone %s, like the primary, and enough others are not", m.Zone))
	}
	if m, _ := d.s.Member(id); m.Witness {
		n.Sync = "-"
	}
	return n
}

// spareOf reports whether id would be in the sync set but for its zone, which is that of the
// primary up.
func (d *decision) spareOf(up pgcluster.Report, id pgcluster.NodeID) bool {
	return id != up.Node && !d.s.Sync.target().Has(id) && d.s.mayJoin(id) && d.joinable(up, id) && !d.zoneHasRoom(up, id)
}

// Well reports whether the node is as it should be: one in maintenance may be anything.
func (n NodeStatus) Well() bool {
	return n.State == "open" || n.State == "streaming" || n.State == "witness" ||
		(n.Absent != nil && n.Absent.Kind == AbsenceMaintenance)
}

func (d *decision) nodeState(r, primary pgcluster.Report) string {
	m, _ := d.s.Member(r.Node)
	switch {
	case m.Witness:
		return "witness"
	case r.Role == pgcluster.RoleNone:
		return "empty"
	case !r.Running():
		return string(r.Process)
	case r.Role == pgcluster.RolePrimary && r.Node == d.s.Primary.Node && d.s.Primary.Access == AccessOpen && r.Open == d.s.Primary.Epoch:
		return "open"
	case r.Role == pgcluster.RolePrimary:
		return "closed"
	}
	if s, ok := primary.Sender(r.Node); ok && s.Streaming && r.Receiver.Streaming {
		return "streaming"
	}
	if _, ok := d.v.report(d.s.Primary.Node, d.p); !ok && r.Receiver.Streaming {
		return "streaming" // as it says itself: the primary cannot be asked
	}
	return "cut off"
}

// ifDies answers for a node that is there.
func (d *decision) ifDies(id pgcluster.NodeID) (Loss, bool) {
	if _, ok := d.v.report(id, d.p); !ok {
		return Loss{}, false
	}
	durable := d.s.Sync.Durable
	var alive, candidates []pgcluster.NodeID
	for _, m := range durable.Members {
		if _, ok := d.v.standby(m, d.p); ok && m != id {
			alive = append(alive, m)
			if !d.s.barred(m) {
				candidates = append(candidates, m)
			}
		}
	}
	if id != d.s.Primary.Node {
		if !durable.Has(id) || len(alive) >= durable.K {
			return Loss{Node: id, Safe: true, Outcome: "writes go on"}, true
		}
		if d.s.Settings.Mode == ModeAvailable {
			return Loss{Node: id, Safe: true, Outcome: fmt.Sprintf("writes wait for %s and go on with fewer standbys", d.p.StandbyLost)}, true
		}
		return Loss{Node: id, Outcome: "writes wait until " + standbysStream(durable.K)}, true
	}
	if d.s.Paused != nil {
		return Loss{Node: id, Outcome: "writes wait: the cluster is paused until " + rfc3339(d.s.Paused.Until)}, true
	}
	slices.Sort(candidates)
	switch {
	case durable.K == 0:
		return Loss{Node: id, Outcome: "writes wait until it returns: no commit waits for another node at present"}, true
	case len(alive) >= durable.Quorum() && len(candidates) == 0:
		return Loss{Node: id, Outcome: "writes wait until it returns: nobody else may be promoted"}, true
	case len(alive) >= durable.Quorum() && len(alive) == 1 && d.s.Settings.Mode != ModeAvailable:
		return Loss{Node: id, Outcome: fmt.Sprintf("%s becomes primary, and writes wait for a second node", candidates[0])}, true
	case len(alive) >= durable.Quorum() && len(candidates) == 1:
		return Loss{Node: id, Safe: true, Outcome: fmt.Sprintf("%s becomes primary", candidates[0])}, true
	case len(alive) >= durable.Quorum():
		return Loss{Node: id, Safe: true, Outcome: fmt.Sprintf("one of %s becomes primary", list(candidates))}, true
	}
	return Loss{Node: id, Outcome: fmt.Sprintf("writes wait until it or %d more of %s return", durable.Quorum()-len(alive), list(durable.Members))}, true
}

func standbysStream(k int) string {
	if k == 1 {
		return "a standby streams"
	}
	return fmt.Sprintf("%d standbys stream", k)
}
