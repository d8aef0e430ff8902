package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Step returns the state that follows s under v, and the orders to send once that
// state is durable. Orders are goals: Step repeats them until a report shows that
// they took effect. Their stamps carry the epoch only; the sender adds the Raft
// term and the index of the state.
func Step(s State, v View, p Policy) (State, []pgcluster.Order) {
	d := decision{s: s.clone(), v: v, p: p}
	d.endPause()
	d.endAbsences()
	d.noteAside()
	d.noteOutage()
	d.outnumber()
	switch {
	case s.Op == nil && s.SystemID == "":
		d.beginBootstrap()
	case s.Op == nil && d.fencedPrimary():
	case s.Op == nil && d.s.Paused != nil:
		d.paused()
	case s.Op == nil:
		d.steady()
	default:
		d.operation()
	}
	return d.s, d.orders
}

// decision is one run of Step: the state as it becomes, and the orders so far.
type decision struct {
	s      State
	v      View
	p      Policy
	orders []pgcluster.Order
}

func (d *decision) operation() {
	switch d.s.Op.Phase {
	case PhaseInit:
		d.init()
	case PhaseCheckpoint:
		d.checkpoint()
	case PhaseStop:
		d.stop()
	case PhaseRecruit:
		d.recruit()
	case PhasePromote:
		d.promote()
	case PhaseBarrier:
		d.barrier()
	case PhaseRestart:
		d.rolling()
	case PhaseAdopt:
		d.adopt()
	default:
		panic(fmt.Sprintf("failover: invalid phase %q", d.s.Op.Phase))
	}
}

// order appends an order for the epoch that is being opened, or is open.
func (d *decision) order(o pgcluster.Order) {
	o.Stamp.Epoch = d.epoch()
	o.SystemID = d.s.SystemID
	d.orders = append(d.orders, o)
}

func (d *decision) begin(op Operation, ph Phase) {
	op.ID = d.number()
	op.Epoch = d.s.Primary.Epoch + 1
	op.Began = d.v.Wall
	d.s.Op = &op
	d.s.Op.enter(ph, d.v)
}

// number returns a number that no order had before. After a recovery from a node that
// knew less, others have carried out orders that the state does not know of, and would
// take another one of the same number for done.
func (d *decision) number() uint64 {
	for _, o := range d.v.Reports {
		d.s.Ops = max(d.s.Ops, o.Report.Cloned, o.Report.Order.Clone, o.Report.Restarted)
	}
	d.s.Ops++
	return d.s.Ops
}

// newest returns the highest version of a configuration that there is, agreed on or not.
// After a recovery from a node that knew less, others have one that the state does not
// know of, and ignore what has a lower version.
func (d *decision) newest() uint64 {
	version := d.s.Settings.Version
	for _, o := range d.v.Reports {
		version = max(version, o.Report.Config)
	}
	return version
}

// outnumber sees that every node goes by what was agreed on, though it may have come back
// with a higher version only now.
func (d *decision) outnumber() {
	version := d.newest()
	if version == d.s.Settings.Version {
		return
	}
	d.record(Event{
		At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: "settings",
		Reason: fmt.Sprintf("a node has version %d, which was lost: version %d is what was version %d", version, version+1, d.s.Settings.Version),
	})
	d.s.Settings.Version = version + 1
}

// beginBootstrap chooses where initdb will run. It waits for every member, so that
// a node that already holds data is seen before another is made from nothing.
func (d *decision) beginBootstrap() {
	if d.beginAdopt() {
		return
	}
	members := d.s.dataMembers()
	for _, m := range members {
		r, ok := d.v.report(m.ID, d.p)
		if !ok || r.Role != pgcluster.RoleNone {
			return
		}
	}
	if len(members) == 0 {
		return
	}
	to := slices.MinFunc(members, byPreference)
	d.begin(Operation{Kind: KindBootstrap, To: to.ID, Reason: "first start of the cluster"}, PhaseInit)
	d.s.Primary.Access = AccessClosed
}

func (d *decision) init() {
	op := d.s.Op
	r, ok := d.v.report(op.To, d.p)
	if ok && r.SystemID != "" && r.Running() && r.Role == pgcluster.RolePrimary && r.Order.Done {
		d.s.SystemID = r.SystemID
		op.enter(PhaseBarrier, d.v)
		d.barrier()
		return
	}
	d.order(pgcluster.Order{Node: op.To, Kind: pgcluster.OrderInit})
}

// recruit collects pledges until whoever is chosen is sure to have every
// acknowledged commit and nobody can acknowledge another in an older epoch.
func (d *decision) recruit() {
	op := d.s.Op
	if op.InPlace && (d.v.silentFor(op.From) >= d.p.Silence || d.v.Now-d.v.PhaseSince >= d.p.PromoteWait) {
		op.InPlace = false // nobody waits for one node alone
	}
	if to, ok := d.pick(); ok {
		d.promoteTo(to)
		d.promote()
		return
	}
	for _, m := range d.s.dataMembers() {
		named := op.Forced != nil && op.Forced.To == m.ID // people accept what becomes of it
		if (op.InPlace && m.ID != op.From) || (d.s.absent(m.ID) && !d.s.Sync.Durable.Has(m.ID) && m.ID != op.From && !named) {
			continue
		}
		if r, ok := d.v.report(m.ID, d.p); ok && r.Role != pgcluster.RoleNone &&
			(r.Recruited != op.Epoch || (r.Role == pgcluster.RoleStandby && r.Down())) {
			d.order(pgcluster.Order{Node: m.ID, Kind: pgcluster.OrderRecruit})
		}
	}
}

// promoteTo makes the choice of a candidate part of the state, and what is known to
// include everything acknowledged so far the floor. That may be less than what the
// candidate has: should it be lost, nobody needs the rest.
func (d *decision) promoteTo(to pgcluster.NodeID) {
	op := d.s.Op
	op.To = to
	if least, ok := d.atLeast(d.pledged()); ok {
		d.s.Floor = higher(d.s.Floor, least)
	} else if r, ok := d.v.report(to, d.p); ok && r.PositionKnown {
		d.s.Floor = higher(d.s.Floor, r.Position)
	}
	op.Base = d.base(to)
	d.setSync(d.nextSync(to))
	op.Alone = op.Sync.K == 0
	op.enter(PhasePromote, d.v)
	d.v.PhaseSince = d.v.Now // however long it took to find somebody
}

// nextSync returns the rule that the new primary presets: the members that were
// durable and are there, without the new primary itself. It may have too few
// members to satisfy K; barrier mends that when others follow.
func (d *decision) nextSync(to pgcluster.NodeID) pgcluster.SyncSet {
	next := pgcluster.SyncSet{K: d.nextK()}
	for _, id := range d.s.Sync.Durable.Members {
		if _, ok := d.v.standby(id, d.p); ok && id != to && d.s.mayJoin(id) {
			next = next.With(id)
		}
	}
	if len(next.Members) >= next.K {
		return next
	}
	// Whoever comes first, but for those who are left out on purpose, if others suffice.
	for _, present := range []bool{true, false} {
		next.Members = nil
		for _, m := range d.s.dataMembers() {
			if m.ID != to && (!present || !d.s.absent(m.ID)) {
				next = next.With(m.ID)
			}
		}
		if len(next.Members) >= next.K {
			break
		}
	}
	return next
}

// nextK returns k of a new epoch. A change of primary does not raise it: the new one
// should not have to wait for more standbys than the last; nor for more than it was
// told before in this operation, for a walsender may still apply that.
func (d *decision) nextK() int {
	k := d.s.K()
	if len(d.s.Epochs) > 0 {
		k = min(k, max(d.s.Sync.Durable.K, d.s.leastK()))
	}
	if op := d.s.Op; op != nil && (op.Alone || op.Sync.Members != nil) {
		k = min(k, max(op.Sync.K, d.s.leastK()))
	}
	return k
}

func (d *decision) promote() {
	op := d.s.Op
	r, ok := d.v.report(op.To, d.p)
	switch {
	case ok && r.Running() && r.Role == pgcluster.RolePrimary && r.Led == op.Epoch:
		op.enter(PhaseBarrier, d.v)
		d.barrier()
		return
	case d.v.silentFor(op.To) >= d.p.Silence:
		d.retry(fmt.Sprintf("%s fell silent while it was promoted", op.To))
		return
	case ok && r.Led == op.Epoch && r.Down() && r.Order.Kind == pgcluster.OrderLead && r.Order.Error != "":
		// Led alone does not say so: it is made durable before the start.
		d.retry(fmt.Sprintf("PostgreSQL on %s was not promoted: %s", op.To, r.Order.Error))
		return
	case ok && r.Role == pgcluster.RoleStandby && d.v.Now-d.v.PhaseSince >= d.p.PromoteWait:
		d.retry(fmt.Sprintf("%s was not promoted within %s", op.To, d.p.PromoteWait))
		return
	case ok && !r.Running() && d.v.Now-d.v.PhaseSince >= d.p.PromoteWait && d.quorumRuns(op.To):
		d.retry(fmt.Sprintf("%s did not start within %s", op.To, d.p.PromoteWait))
		return
	}
	d.lead(op.To, op.Sync, true, false)
	if !ok || r.Role != pgcluster.RoleStandby || r.Led != op.Epoch {
		return
	}
	// Re-pointed during the promotion, a standby acknowledges the barrier sooner; any
	// earlier, it would be refused and come back later. In a switchover, also one for a
	// restart, none has pledged: whom they followed is down for good.
	for _, id := range op.Sync.Members {
		f, ok := d.v.standby(id, d.p)
		free := f.Recruited == op.Epoch || op.Kind == KindSwitchover || op.Kind == KindRestart
		if ok && free && f.Position.Compare(r.Position) <= 0 {
			d.follow(f, r)
		}
	}
}

// quorumRuns reports whether the standbys that run can do without id: enough of them to
// recruit are members of the sync set.
func (d *decision) quorumRuns(id pgcluster.NodeID) bool {
	running := 0
	for _, m := range d.s.Sync.Durable.Members {
		if _, ok := d.v.standby(m, d.p); ok && m != id {
			running++
		}
	}
	return running >= d.s.Sync.Durable.Quorum()
}

// retry gives up on the chosen node and recruits again, one epoch higher.
func (d *decision) retry(reason string) {
	op := d.s.Op
	if op.To != op.From && !slices.Contains(op.Tried, op.To) {
		op.Tried = append(op.Tried, op.To)
	}
	op.Failed = op.To
	op.To, op.InPlace, op.Alone = "", false, false
	op.Kind = KindFailover
	op.Epoch++
	op.Reason = reason
	op.enter(PhaseRecruit, d.v)
	d.recruit()
}

// barrier waits until a commit of the new primary is acknowledged by its sync set,
// and brings the other nodes to follow it meanwhile.
func (d *decision) barrier() {
	op := d.s.Op
	r, ok := d.v.report(op.To, d.p)
	switch {
	case op.first() && ok && r.Down():
		d.startAgain(r)
	case op.first() && !ok:
		return
	case d.v.silentFor(op.To) >= d.p.Silence:
		d.retry(fmt.Sprintf("%s fell silent before its barrier", op.To))
		return
	case ok && r.Down():
		d.retry(fmt.Sprintf("PostgreSQL on %s died before its barrier", op.To))
		return
	case !ok:
		return
	case op.first():
	case r.AnsweredAgo >= d.p.Hung:
		d.retry(fmt.Sprintf("PostgreSQL on %s hangs before its barrier", op.To))
		return
	case d.v.Now-d.v.PhaseSince >= d.p.PromoteWait && d.unreached(r):
		d.retry(fmt.Sprintf("no standby reached %s within %s", op.To, d.p.PromoteWait))
		return
	}
	if next, changed := d.syncFromSenders(r); changed {
		d.setSync(next)
	}
	waits := op.Sync.K > 0 || op.Alone
	if waits && r.Running() && r.Barrier == op.Epoch && d.inForce(r, op.Sync) &&
		flushed(r, op.Sync, r.BarrierAt) >= op.Sync.K {
		d.open(r)
		return
	}
	d.lead(op.To, op.Sync, waits, false)
	d.enlist(r)
}

// unreached reports whether enough standbys run for the barrier of a new primary,
// whose report is r, but too few get through to it: it hangs, or has no network.
// A standby that catches up does get through.
func (d *decision) unreached(r pgcluster.Report) bool {
	running, through := 0, 0
	for _, m := range d.s.dataMembers() {
		if _, ok := d.v.standby(m.ID, d.p); ok && m.ID != r.Node && !d.s.absent(m.ID) {
			running++
		}
		if _, ok := r.Sender(m.ID); ok {
			through++
		}
	}
	k := d.nextK()
	return through < k && running >= k
}

// setSync changes the rule that the new primary will have in force.
func (d *decision) setSync(sync pgcluster.SyncSet) {
	d.s.Op.Sync = sync
	d.s.Sync.Seq++
}

// syncFromSenders replaces a preset sync set that nobody satisfies by the nodes
// that do stream from the new primary; in ModeAvailable, after a while, by however
// few they are.
func (d *decision) syncFromSenders(r pgcluster.Report) (pgcluster.SyncSet, bool) {
	op := d.s.Op
	fewer := d.s.Settings.Mode == ModeAvailable || op.Forced != nil
	op.Alone = op.Alone && fewer
	if op.Alone || (op.Sync.K > 0 && streaming(r, op.Sync) >= op.Sync.K) {
		return pgcluster.SyncSet{}, false
	}
	now := pgcluster.SyncSet{K: d.nextK()}
	for _, m := range d.s.Members {
		if s, ok := r.Sender(m.ID); ok && s.Streaming && d.s.mayJoin(m.ID) {
			now = now.With(m.ID)
		}
	}
	if fewer && d.v.Now-d.v.PhaseSince >= d.p.StandbyLost {
		now.K = min(now.K, len(now.Members))
		op.Alone = now.K == 0
	}
	if len(now.Members) < now.K {
		return pgcluster.SyncSet{}, false
	}
	return now, !now.Equal(op.Sync) || op.Alone
}

func (d *decision) open(r pgcluster.Report) {
	op := d.s.Op
	d.s.Primary = Primary{Node: op.To, Epoch: op.Epoch, Access: AccessOpen, Base: op.Base}
	d.s.Sync = Sync{Durable: op.Sync, Seq: d.s.Sync.Seq}
	d.s.Lineage = r.Lineage
	d.s.Floor = pgcluster.Position{Timeline: r.Lineage.Current(), LSN: r.BarrierAt}
	d.s.Epochs = append(d.s.Epochs, Epoch{Epoch: op.Epoch, Node: op.To, Timeline: r.Lineage.Current()})
	if over := len(d.s.Epochs) - maxEpochs; over > 0 {
		d.s.Epochs = d.s.Epochs[over:]
	}
	d.keep(op.To)
	op.Steps = append(op.Steps, PhaseTime{Phase: "open", Epoch: op.Epoch, At: d.v.Wall})
	d.record(Event{
		At: d.v.Wall, Epoch: op.Epoch, Kind: string(op.Kind), Node: op.To, From: op.From,
		Reason: op.lossReason(), Took: max(0, d.v.Wall.Sub(op.Began)).Round(time.Millisecond), Steps: op.Steps,
		Evidence: op.Evidence, Lost: op.lost(), Unwell: op.Unwell,
	})
	d.s.Op = nil
	d.restartOn(*op)
	d.lead(d.s.Primary.Node, op.Sync, true, true)
}

// lead orders id to be primary.
func (d *decision) lead(id pgcluster.NodeID, sync pgcluster.SyncSet, barrier, open bool) {
	d.order(pgcluster.Order{Node: id, Kind: pgcluster.OrderLead, Sync: sync, SyncSeq: d.s.Sync.Seq, Barrier: barrier, Open: open})
}

// record appends to the history, which forgets the oldest events.
func (d *decision) record(e Event) {
	d.s.History = append(d.s.History, e)
	if over := len(d.s.History) - maxHistory; over > 0 {
		d.s.History = slices.Delete(d.s.History, 0, over)
	}
}
