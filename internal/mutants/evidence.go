package main

const (
	evidence = "failover/evidence.go"
	force    = "failover/force.go"
	restart  = "failover/restart.go"
)

// beliefs are about when a primary counts as lost. None of them can lose a commit: a
// wrong one costs a failover that nobody needed, or one that does not come.
func beliefs() []mutant {
	return []mutant{
		{
			name: "no second opinion on a silent primary", file: evidence,
			old: "silence >= d.p.Silence && d.unheard()", new: "silence >= d.p.Silence",
		},
		{
			name: "no second opinion on refused connections", file: evidence,
			old: "r.ConnectStalled >= d.p.Refused && d.othersAreWell()", new: "r.ConnectStalled >= d.p.Refused",
		},
		{
			name: "no second opinion on a stuck disk", file: evidence,
			old: "d.othersAreWell() && !d.overtaken(r)", new: "d.othersAreWell()",
		},
		{
			name: "depose without enough to recruit", file: evidence,
			old: "count >= d.s.Sync.Durable.Quorum()", new: "count > 0",
		},
		{
			name: "depose for those who may not follow", file: evidence,
			old: "return candidate && count", new: "return count",
		},
		{
			name: "leave who is cut off in charge", file: evidence,
			old: "case d.cutOff(r):", new: "case false:",
		},
		{
			name: "a standby that is re-pointed counts as cut off", file: evidence,
			old: "return r.Order.Kind == pgcluster.OrderFollow && r.Order.Stamp", new: "return r.Order.Stamp",
		},
		{
			name: "no patience with who is cut off", file: evidence,
			old: "d.v.Now-max(d.v.Streamed[r.Node], d.v.Since) >= d.p.CutOff", new: "true",
		},
		{
			name: "no cooldown", file: "failover/steady.go",
			old: "lost && d.cooldown(f) == 0 {", new: "lost {",
		},
	}
}

// takeovers are about what is made from nothing or adopted, and what people may force.
func takeovers() []mutant {
	return []mutant{
		{
			name: "initdb though a node has data", file: step,
			old: "if !ok || r.Role != pgcluster.RoleNone {", new: "if !ok || r.Role == \"\" {",
		},
		{
			name: "initdb before every node was heard", file: step,
			old: "if !ok || r.Role != pgcluster.RoleNone {", new: "if ok && r.Role != pgcluster.RoleNone {",
		},
		{
			name: "adopt while a member is silent", file: "failover/adopt.go",
			old: "case !ok:\n\t\t\treturn primary, fmt.Sprintf(\"waiting for %s\", m.ID)", new: "case !ok:\n\t\t\tcontinue",
		},
		{
			name: "adopt one of two primaries", file: "failover/adopt.go",
			old: "case r.Role == pgcluster.RolePrimary && primary.Node != \"\":", new: "case false:",
		},
		{
			name: "adopt data of two systems", file: "failover/adopt.go",
			old: "case r.SystemID != primary.SystemID:", new: "case false:",
		},
		{
			name: "adopt a primary of the past", file: "failover/adopt.go",
			old: "case latest(r) > latest(primary):", new: "case false:",
		},
		{
			name: "adopt in an epoch that nodes have seen", file: "failover/adopt.go",
			old: "o.Report.Pledged.Epoch+1, latest(o.Report)+1)", new: "min(o.Report.Pledged.Epoch, 1))",
		},
		{
			name: "force within the lease", file: force,
			old: "if forced == nil || d.v.Now-d.v.PhaseSince < d.p.Lease {", new: "if forced == nil {",
		},
		{
			name: "force what need not be", file: force,
			old: "if to, ok := d.choose(); ok {\n\t\tif forced", new: "if to, ok := d.choose(); ok && forced == nil {\n\t\tif forced",
		},
		{
			name: "force who strays", file: force,
			old: "readable(r) && d.onLineage(r) && (id", new: "readable(r) && (id",
		},
		{
			name: "remember epochs that were given up", file: force,
			old: "return e.Epoch > latest(r) || e.Timeline > r.Position.Timeline", new: "return false",
		},
		{
			name: "ask for what was given up", file: force,
			old: "\td.s.Floor = r.Position\n", new: "",
		},
	}
}

// restarts are about restarting one node after the other.
func restarts() []mutant {
	return []mutant{
		{
			name: "restart whom commits rest on", file: restart,
			old: "if d.spare(r, next) {", new: "if r.Running() {",
		},
		{
			name: "restart the next too early", file: restart,
			old: "f.Restarted == op.ID && d.joinable(r, op.To):", new: "f.Restarted == op.ID:",
		},
		{
			name: "trust a restart of before", file: restart,
			old: "f.Restarted == op.ID && d.joinable(r, op.To):", new: "f.Restarted <= op.ID && d.joinable(r, op.To):",
		},
		{
			name: "standbys first, whatever gets lower", file: restart,
			old: "case len(r.Lower) == 0:", new: "case len(r.Lower) < 9:",
		},
		{
			name: "the primary first, whatever gets higher", file: restart,
			old: "case len(r.Higher) == 0:", new: "case len(r.Higher) < 9:",
		},
		{
			name: "hand over to who has more", file: restart,
			old: "len(op.Todo) == 0 && len(r.Lower) == 0", new: "len(op.Todo) == 0",
		},
		{
			name: "restart a standby that keeps what it has", file: restart,
			old: "id != \"\" && id != primary && len(r.Lower) > 0:", new: "id == \"\" && id != primary && len(r.Lower) > 0:",
		},
		{
			name: "restart the primary before who must have more", file: restart,
			old: "id == primary && len(r.Lower) > 0 &&", new: "id == \"\" && len(r.Lower) > 0 &&",
		},
		{
			name: "restart on, whatever happens to the primary", file: restart,
			old: "if f, lost := d.primaryLost(); lost && (", new: "if f, lost := d.primaryLost(); lost && d.s.Op == nil && (",
		},
		{
			name: "stop in place without a pledge", file: restart,
			old: "ok && r.Down() && r.Recruited == op.Epoch:\n\t\top.enter(PhaseRecruit", new: "ok && r.Down():\n\t\top.enter(PhaseRecruit",
		},
	}
}

// pauses are about what a cluster does while people have it do nothing.
func pauses() []mutant {
	return []mutant{
		{
			name: "a pause that stops nothing", file: step,
			old: "case s.Op == nil && d.s.Paused != nil:", new: "case false:",
		},
		{
			name: "a pause without an end", file: "failover/pause.go",
			old: "p != nil && !d.v.Wall.Before(p.Until)", new: "p != nil && p.Until.IsZero()",
		},
		{
			name: "a pause that forgets the open primary", file: "failover/pause.go",
			old: "r.Role == pgcluster.RolePrimary {\n\t\td.keepOpen(r)", new: "r.Role == pgcluster.RolePrimary {",
		},
	}
}
