package main

const (
	choose     = "failover/choose.go"
	syncSet    = "failover/syncset.go"
	members    = "failover/members.go"
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
			old: "quorum := d.s.Sync.Durable.Quorum()", new: "quorum := max(1, d.s.Sync.Durable.Quorum()-1)",
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
			old: "d.s.Floor = higher(d.s.Floor, least)", new: "_ = least",
		},
		{
			name: "promote who has least WAL", file: choose,
			old: "b.Position.Compare(a.Position)", new: "a.Position.Compare(b.Position)",
		},
		{
			name: "count who is off the lineage", file: choose,
			old: "ok && readable(r) && d.onLineage(r) {\n\t\t\theld", new: "ok && readable(r) {\n\t\t\theld",
		},
		{
			name: "count who hides its position", file: choose,
			old: "ok && readable(r) && d.onLineage(r) {\n\t\t\theld", new: "ok && d.onLineage(r) {\n\t\t\theld",
		},
		{
			name: "start again who has just failed", file: choose,
			old: "case id == d.s.Op.Failed:", new: "case id == \"\":",
		},
		{
			name: "a running ex-primary stands for all", file: choose,
			old: "ok && from.Down() && from.PositionKnown", new: "ok && from.PositionKnown",
		},
	}
}

// changes are about the sync set.
func changes() []mutant {
	return []mutant{
		{
			name: "ignore sync_priority", file: syncSet,
			old: "if s.SyncPriority > 0 && !sync.Has(s.Node)", new: "if s.SyncPriority < 0 && !sync.Has(s.Node)",
		},
		{
			name: "ignore the number of the rule", file: syncSet,
			old: "r.Order.SyncSeq != d.s.Sync.Seq || r.SyncNames != sync.Names()", new: "r.SyncNames != sync.Names()",
		},
		{
			name: "ignore the names in force", file: syncSet,
			old: "r.Order.SyncSeq != d.s.Sync.Seq || r.SyncNames != sync.Names()", new: "r.Order.SyncSeq != d.s.Sync.Seq",
		},
		{
			name: "shrink Raft first", file: syncSet,
			old: "streaming(r, next) >= next.K {\n\t\t\t\td.pend(next)", new: "streaming(r, next) >= next.K {\n\t\t\t\td.durable(next, \"shrink\", id, \"\")",
		},
		{
			name: "skip the mark", file: syncSet,
			old: "case sync.Mark == 0:\n\t\tsync.Mark = r.Position.LSN\n", new: "",
		},
		{
			name: "mark before the rule is in force", file: syncSet,
			old: "case !d.inForce(r, pending):\n", new: "case sync.Mark == 0 && !sync.raises():\n\t\tsync.Mark = r.Position.LSN\n\tcase !d.inForce(r, pending):\n",
		},
		{
			name: "finish a shrink one short of K", file: syncSet,
			old: "case flushed(r, pending, sync.Mark) < pending.K:", new: "case flushed(r, pending, sync.Mark) < pending.K-1:",
		},
		{
			name: "begin a shrink unnumbered", file: syncSet,
			old: "Pending: &next, Seq: d.s.Sync.Seq + 1}", new: "Pending: &next, Seq: d.s.Sync.Seq}",
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
			old: "if d.outdated(r) ||", new: "if (r.Role == \"\" && d.outdated(r)) ||",
		},
		{
			name: "believe the position of who hangs", file: rejoin,
			old: "(!reclone && d.unsettled(r))", new: "(!reclone && r.Role == \"\" && d.unsettled(r))",
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

// numbers are about k.
//
//nolint:dupl // a list, not code
func numbers() []mutant {
	return []mutant{
		{
			name: "raise k in Raft first", file: syncSet,
			old: "d.stay(next)) < next.K {\n\t\treturn false\n\t}\n\td.pend(next)",
			new: "d.stay(next)) < next.K {\n\t\treturn false\n\t}\n\td.durable(next, \"raise\", \"\", \"\")",
		},
		{
			name: "trust that walsenders have a greater k", file: syncSet,
			old: "case sync.raises() && !passed(r, pending, sync.Past):\n", new: "",
		},
		{
			name: "a walsender that flushed nothing new has come round", file: syncSet,
			old: "&& s.Flushed <= at {", new: "&& s.Flushed < at {",
		},
		{
			name: "raise k without the mark", file: syncSet,
			old: "case flushed(r, pending, sync.Mark) < pending.K:", new: "case !sync.raises() && flushed(r, pending, sync.Mark) < pending.K:",
		},
		{
			name: "lower k in PostgreSQL first", file: syncSet,
			old: "d.durable(pgcluster.SyncSet{Members: durable.Members, K: k}, \"lower\", \"\", reason)",
			new: "_ = reason\n\td.pend(pgcluster.SyncSet{Members: durable.Members, K: k})",
		},
		{
			name: "lower k for losses though protect", file: syncSet,
			old: "d.s.Settings.Mode == ModeAvailable && present < min", new: "present < min",
		},
		{
			name: "protect may go down to nobody", file: members,
			old: "if s.Settings.Mode == ModeAvailable {", new: "if s.Settings.Mode != \"\" || s.SystemID != \"\" {",
		},
		{
			name: "recruit anybody when k = 0", file: choose,
			old: "quorum := d.s.Sync.Durable.Quorum()\n", new: "quorum := min(d.s.Sync.Durable.Quorum(), max(1, len(d.s.Sync.Durable.Members)))\n",
		},
		{
			name: "open alone though protect", file: step,
			old: "op.Alone = op.Alone && fewer\n", new: "",
		},
		{
			name: "a change of primary raises k", file: step,
			old: "k = min(k, max(d.s.Sync.Durable.K, d.s.leastK()))", new: "k = max(k, d.s.leastK())",
		},
		{
			name: "an operation raises the k that it ordered", file: step,
			old: "k = min(k, max(op.Sync.K, d.s.leastK()))", new: "k = max(k, d.s.leastK())",
		},
	}
}

// roles are about members, their tags and zones.
//
//nolint:dupl // a list, not code
func roles() []mutant {
	return []mutant{
		{
			name: "promote who must not be", file: choose,
			old: "!ok || d.s.barred(m.ID) || (", new: "!ok || (",
		},
		{
			name: "promote who is leaving like any other", file: choose,
			old: "(!waitable(m) && !d.waitedForStandbys())", new: "(!waitable(m) && m.Witness)",
		},
		{
			name: "the least WAL of a quorum will do", file: choose,
			old: "higher(floor, held[quorum-1])", new: "higher(floor, held[0])",
		},
		{
			name: "an attempt's clean stop stands for all", file: choose,
			old: "from.Down() && from.PositionKnown && d.onLineage(from)\n", new: "from.Down() && from.PositionKnown\n",
		},
		{
			name: "let commits wait for who leaves", file: members,
			old: "m.Data() && !m.NoSync && !m.Leaving", new: "m.Data() && !m.NoSync",
		},
		{
			name: "let commits wait for who should not be", file: members,
			old: "m.Data() && !m.NoSync && !m.Leaving", new: "m.Data() && !m.Leaving",
		},
		{
			name: "order witnesses about", file: members,
			old: "return m.Witness })", new: "return m.Witness && m.ID == \"\" })",
		},
		{
			name: "forget a member that commits wait for", file: members,
			old: "if m.Leaving && !waited &&", new: "if m.Leaving && (waited || !waited) &&",
		},
		{
			name: "remove the primary", file: members,
			old: "case id == s.Primary.Node:", new: "case id == \"\":",
		},
		{
			name: "change members within an operation", file: members,
			old: "if s.Op != nil {\n\t\treturn &RefusedError", new: "if s.Op != nil && s.Op.ID == 0 {\n\t\treturn &RefusedError",
		},
		{
			name: "count on the primary's zone", file: syncSet,
			old: "crowded := d.s.sameZone(id, r.Node) &&", new: "crowded := id == \"\" &&",
		},
	}
}
