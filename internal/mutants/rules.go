package main

const (
	choose     = "failover/choose.go"
	step       = "failover/step.go"
	steady     = "failover/steady.go"
	rejoin     = "failover/rejoin.go"
	switchover = "failover/switchover.go"
)

// choices are about whom a failover recruits and promotes.
func choices() []mutant {
	return []mutant{
		{
			name: "recruit one fewer", file: choose,
			old: "members >= d.s.Sync.Durable.Quorum()", new: "members >= d.s.Sync.Durable.Quorum()-1",
		},
		{
			name: "quorum is n-k", file: "pgcluster/syncset.go",
			old: "return len(s.Members) - s.K + 1", new: "return len(s.Members) - s.K",
		},
		{
			name: "skip the pledge check", file: choose,
			old: "ok && r.Recruited == d.s.Op.Epoch && r.SystemID", new: "ok && r.SystemID",
		},
		{
			name: "an older pledge will do", file: choose,
			old: "r.Recruited == d.s.Op.Epoch", new: "r.Recruited > 0",
		},
		{
			name: "ignore the floor", file: choose,
			old: "return floor.Timeline == 0 ||", new: "return true || floor.Timeline == 0 ||",
		},
		{
			name: "never raise the floor", file: step,
			old: "ok && r.PositionKnown && r.Position.Compare(d.s.Floor) > 0", new: "ok && r.Position.Compare(d.s.Floor) > 1",
		},
		{
			name: "promote who has least WAL", file: choose,
			old: "b.Position.Compare(a.Position)", new: "a.Position.Compare(b.Position)",
		},
		{
			name: "count who is off the lineage", file: choose,
			old: "ok && readable(r) && d.onLineage(r) {\n\t\t\tmembers++", new: "ok && readable(r) {\n\t\t\tmembers++",
		},
		{
			name: "count who hides its position", file: choose,
			old: "ok && readable(r) && d.onLineage(r) {\n\t\t\tmembers++", new: "ok && d.onLineage(r) {\n\t\t\tmembers++",
		},
		{
			name: "a running ex-primary stands for all", file: choose,
			old: "fromPledged = fromPledged && from.Down()", new: "fromPledged = fromPledged && from.SystemID != \"\"",
		},
	}
}

// changes are about the sync set.
func changes() []mutant {
	return []mutant{
		{
			name: "ignore sync_priority", file: step,
			old: "return s.SyncPriority > 0 && !sync.Has(s.Node)", new: "return s.SyncPriority < 0 && !sync.Has(s.Node)",
		},
		{
			name: "ignore the number of the rule", file: step,
			old: "r.Order.SyncSeq == d.s.Sync.Seq && r.SyncNames == sync.Names()", new: "r.SyncNames == sync.Names()",
		},
		{
			name: "ignore the names in force", file: step,
			old: "r.Order.SyncSeq == d.s.Sync.Seq && r.SyncNames == sync.Names()", new: "r.Order.SyncSeq == d.s.Sync.Seq",
		},
		{
			name: "shrink Raft first", file: steady,
			old: "d.s.Sync.Pending, d.s.Sync.Mark = &next, 0", new: "d.s.Sync.Durable, d.s.Sync.Mark = next, 0",
		},
		{
			name: "skip the mark", file: steady,
			old: "if d.s.Sync.Mark == 0 {\n\t\td.s.Sync.Mark = r.Position.LSN\n\t\treturn\n\t}", new: "",
		},
		{
			name: "mark before the rule is in force", file: steady,
			old: "if !d.inForce(r, pending) {\n\t\treturn\n\t}",
			new: "if d.s.Sync.Mark == 0 {\n\t\td.s.Sync.Mark = r.Position.LSN\n\t}\n\tif !d.inForce(r, pending) {\n\t\treturn\n\t}",
		},
		{
			name: "finish a shrink one short of K", file: steady,
			old: "flushed(r, pending, d.s.Sync.Mark) < pending.K", new: "flushed(r, pending, d.s.Sync.Mark) < pending.K-1",
		},
		{
			name: "begin a shrink unnumbered", file: steady,
			old: "d.s.Sync.Pending, d.s.Sync.Mark = &next, 0\n\t\t\td.s.Sync.Seq++", new: "d.s.Sync.Pending, d.s.Sync.Mark = &next, 0",
		},
	}
}

// openings are about what comes after a promotion, and about orders.
func openings() []mutant {
	return []mutant{
		{
			name: "open before the barrier", file: step, needs: "histories",
			old: "r.Barrier == op.Epoch && d.inForce(r, op.Sync)", new: "d.inForce(r, op.Sync)",
		},
		{
			name: "open by an old barrier", file: step,
			old: "r.Barrier == op.Epoch", new: "r.Barrier > 0",
		},
		{
			name: "open without K flushed", file: step,
			old: "d.inForce(r, op.Sync) &&\n\t\tflushed(r, op.Sync, r.BarrierAt) >= op.Sync.K", new: "d.inForce(r, op.Sync)",
		},
		{
			name: "open before the rule is in force", file: step,
			old: "r.Barrier == op.Epoch && d.inForce(r, op.Sync) &&", new: "r.Barrier == op.Epoch &&",
		},
		{
			name: "retry in the same epoch", file: step,
			old: "op.Epoch++\n\top.Reason = reason", new: "op.Reason = reason",
		},
		{
			name: "never reclone", file: rejoin,
			old: "reclone := latest(r) != d.epoch() &&", new: "reclone := latest(r) > 1<<40 &&",
		},
		{
			name: "follow without a pledge", file: rejoin,
			old: "if d.outdated(r) {", new: "if r.Role == \"\" && d.outdated(r) {",
		},
		{
			name: "switch over to who lacks the end", file: switchover,
			old: "toOK && to.Position.LSN >= from.Position.LSN", new: "toOK && to.Position.LSN > 0",
		},
		{
			name: "accept an order of an older epoch", file: "pgcluster/report.go", needs: "histories",
			old: "return s.Epoch < o.Epoch", new: "return false",
		},
		{
			name: "accept an order of an older state", file: "pgcluster/report.go",
			old: "return s.Index < o.Index", new: "return false",
		},
	}
}
