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
	switch {
	case s.Op == nil && s.SystemID == "":
		d.beginBootstrap()
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
	d.s.Ops++
	op.ID = d.s.Ops
	op.Epoch = d.s.Primary.Epoch + 1
	op.Began = d.v.Wall
	d.s.Op = &op
	d.s.Op.enter(ph, d.v)
}

// beginBootstrap chooses where initdb will run. It waits for every member, so that
// a node that already holds data is seen before another is made from nothing.
func (d *decision) beginBootstrap() {
	for _, m := range d.s.Members {
		r, ok := d.v.report(m.ID, d.p)
		if !ok || r.Role != pgcluster.RoleNone {
			return
		}
	}
	if len(d.s.Members) == 0 {
		return
	}
	d.begin(Operation{Kind: KindBootstrap, To: d.s.Members[0].ID, Reason: "first start of the cluster"}, PhaseInit)
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
	if to, ok := d.choose(); ok {
		d.promoteTo(to)
		d.promote()
		return
	}
	for _, m := range d.s.Members {
		if op.InPlace && m.ID != op.From {
			continue
		}
		if r, ok := d.v.report(m.ID, d.p); ok && r.Role != pgcluster.RoleNone &&
			(r.Recruited != op.Epoch || (r.Role == pgcluster.RoleStandby && r.Down())) {
			d.order(pgcluster.Order{Node: m.ID, Kind: pgcluster.OrderRecruit})
		}
	}
}

// promoteTo makes the choice of a candidate part of the state. What it holds
// becomes the floor: everything acknowledged so far is at or below it.
func (d *decision) promoteTo(to pgcluster.NodeID) {
	op := d.s.Op
	op.To = to
	if r, ok := d.v.report(to, d.p); ok && r.PositionKnown && r.Position.Compare(d.s.Floor) > 0 {
		d.s.Floor = r.Position
	}
	op.Base = d.base(to)
	d.setSync(d.nextSync(to))
	op.enter(PhasePromote, d.v)
}

// nextSync returns the rule that the new primary presets: the members that were
// durable and are there, without the new primary itself. It may have too few
// members to satisfy K; barrier mends that when others follow.
func (d *decision) nextSync(to pgcluster.NodeID) pgcluster.SyncSet {
	next := pgcluster.SyncSet{K: quorum(len(d.s.Members))}
	for _, id := range d.s.Sync.Durable.Members {
		if _, ok := d.v.standby(id, d.p); ok && id != to {
			next = next.With(id)
		}
	}
	if len(next.Members) >= next.K {
		return next
	}
	next.Members = nil
	for _, m := range d.s.Members {
		if m.ID != to {
			next = next.With(m.ID)
		}
	}
	return next
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
	}
	d.lead(op.To, op.Sync, true, false)
	if !ok || r.Role != pgcluster.RoleStandby {
		return
	}
	// Re-pointed before the promotion, a standby acknowledges the barrier sooner.
	for _, id := range op.Sync.Members {
		if f, ok := d.v.standby(id, d.p); ok && f.Recruited == op.Epoch && f.Position.Compare(r.Position) <= 0 {
			d.follow(f, r)
		}
	}
}

// retry gives up on the chosen node and recruits again, one epoch higher.
func (d *decision) retry(reason string) {
	op := d.s.Op
	if op.To != op.From && !slices.Contains(op.Tried, op.To) {
		op.Tried = append(op.Tried, op.To)
	}
	op.To, op.InPlace = "", false
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
	case op.Kind == KindBootstrap && ok && r.Down():
		if r.Led == op.Epoch { // nothing was ever acknowledged: the same node starts once more
			op.Epoch++
			op.enter(PhaseBarrier, d.v)
		}
	case op.Kind == KindBootstrap && !ok:
		return
	case d.v.silentFor(op.To) >= d.p.Silence:
		d.retry(fmt.Sprintf("%s fell silent before its barrier", op.To))
		return
	case ok && r.Down():
		d.retry(fmt.Sprintf("PostgreSQL on %s died before its barrier", op.To))
		return
	case !ok:
		return
	case op.Kind == KindBootstrap:
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
	if op.Sync.K > 0 && r.Running() && r.Barrier == op.Epoch && d.inForce(r, op.Sync) &&
		flushed(r, op.Sync, r.BarrierAt) >= op.Sync.K {
		d.open(r)
		return
	}
	d.lead(op.To, op.Sync, op.Sync.K > 0, false)
	d.followers(r)
}

// unreached reports whether enough standbys run for the barrier of a new primary,
// whose report is r, but too few get through to it: it hangs, or has no network.
// A standby that catches up does get through.
func (d *decision) unreached(r pgcluster.Report) bool {
	running, through := 0, 0
	for _, m := range d.s.Members {
		if _, ok := d.v.standby(m.ID, d.p); ok && m.ID != r.Node {
			running++
		}
		if _, ok := r.Sender(m.ID); ok {
			through++
		}
	}
	k := quorum(len(d.s.Members))
	return through < k && running >= k
}

// setSync changes the rule that the new primary will have in force.
func (d *decision) setSync(sync pgcluster.SyncSet) {
	d.s.Op.Sync = sync
	d.s.Sync.Seq++
}

// inForce reports whether nobody but members of sync, the rule last ordered, can
// acknowledge a commit. The names alone do not say so: they may be those of an
// earlier time, with a change still to come, and a walsender that has not reloaded
// them yet counts itself by those it has.
func (d *decision) inForce(r pgcluster.Report, sync pgcluster.SyncSet) bool {
	return r.Order.SyncSeq == d.s.Sync.Seq && r.SyncNames == sync.Names() && !slices.ContainsFunc(r.Senders, func(s pgcluster.Sender) bool {
		return s.SyncPriority > 0 && !sync.Has(s.Node)
	})
}

// flushed counts the members of sync that have flushed up to at.
func flushed(r pgcluster.Report, sync pgcluster.SyncSet, at pgcluster.LSN) int {
	n := 0
	for _, id := range sync.Members {
		if s, ok := r.Sender(id); ok && s.Flushed >= at {
			n++
		}
	}
	return n
}

// streaming counts the members of sync that the primary streams to.
func streaming(r pgcluster.Report, sync pgcluster.SyncSet) int {
	n := 0
	for _, id := range sync.Members {
		if s, ok := r.Sender(id); ok && s.Streaming {
			n++
		}
	}
	return n
}

// syncFromSenders replaces a preset sync set that nobody satisfies by the nodes
// that do stream from the new primary.
func (d *decision) syncFromSenders(r pgcluster.Report) (pgcluster.SyncSet, bool) {
	now := pgcluster.SyncSet{K: quorum(len(d.s.Members))}
	for _, m := range d.s.Members {
		if s, ok := r.Sender(m.ID); ok && s.Streaming {
			now = now.With(m.ID)
		}
	}
	served := d.s.Op.Sync.K > 0 && streaming(r, d.s.Op.Sync) >= d.s.Op.Sync.K
	if served || len(now.Members) < now.K {
		return pgcluster.SyncSet{}, false
	}
	return now, !now.Equal(d.s.Op.Sync)
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
	op.Steps = append(op.Steps, PhaseTime{Phase: "open", Epoch: op.Epoch, At: d.v.Wall})
	d.record(Event{
		At: d.v.Wall, Epoch: op.Epoch, Kind: string(op.Kind), Node: op.To, From: op.From,
		Reason: op.Reason, Took: max(0, d.v.Wall.Sub(op.Began)).Round(time.Millisecond), Steps: op.Steps,
	})
	d.s.Op = nil
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
